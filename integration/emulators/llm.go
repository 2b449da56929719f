package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

const aimock = "@copilotkit/aimock@1.43.0"

const aimockFixtures = `{"fixtures":[
 {"match":{"userMessage":"three words"},"response":{"content":"alpha beta gamma"}},
 {"match":{"userMessage":"many words"},"response":{"content":"one two three four five six seven eight nine ten"}}
]}`

func init() {
	emulators = append(emulators, emulator{"llm", aimock + " (npm), which speaks as OpenAI, Anthropic, Gemini and Ollama do", runLLM})
}

// runLLM asks every kind of provider that aimock plays, and then has it refuse, break off and talk nonsense.
func runLLM(ctx context.Context, s *stage) error {
	node, err := harness.InstallNode(ctx)
	if err != nil {
		return err
	}
	program, err := node.Install(ctx, aimock, "llmock", false)
	if err != nil {
		return err
	}
	fixtures := filepath.Join(s.dir, "fixtures")
	if err := os.MkdirAll(fixtures, 0o750); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(fixtures, "words.json"), []byte(aimockFixtures), 0o600); err != nil {
		return err
	}
	play := func(extra ...string) (*harness.Server, error) {
		addr, err := harness.FreeAddr()
		if err != nil {
			return nil, err
		}
		_, port, _ := net.SplitHostPort(addr)
		return harness.StartHTTP(ctx, harness.Spec{
			Name: "aimock", Path: node.Program(), Args: append([]string{program, "-p", port, "-f", fixtures}, extra...),
			Env: []string{"PATH=" + node.PATH(), "HOME=" + s.dir}, Dir: s.dir,
		}, "127.0.0.1:"+port)
	}
	good, err := play()
	if err != nil {
		return err
	}
	defer good.Kill()
	refusing, err := play("--chaos-ratelimit", "1")
	if err != nil {
		return err
	}
	defer refusing.Kill()
	breaking, err := play("--chaos-disconnect", "1")
	if err != nil {
		return err
	}
	defer breaking.Kill()
	babbling, err := play("--chaos-malformed", "1")
	if err != nil {
		return err
	}
	defer babbling.Kill()

	var yaml strings.Builder
	yaml.WriteString("gateway: { listen: LISTEN }\ndownstreams:\n")
	for _, d := range []struct{ name, provider, addr, model string }{
		{"openai", "openai", good.Addr, "gpt-4o"},
		{"anthropic", "anthropic", good.Addr, "claude-sonnet-4-5"},
		{"gemini", "gemini", good.Addr, "gemini-2.5-flash"},
		{"ollama", "ollama", good.Addr, "llama3"},
		{"refusing", "openai", refusing.Addr, "gpt-4o"},
		{"breaking", "openai", breaking.Addr, "gpt-4o"},
		{"babbling", "openai", babbling.Addr, "gpt-4o"},
	} {
		fmt.Fprintf(&yaml, "  %s: { preset: llm, url: \"http://%s\", token: test-key, llm: { provider: %s, model: %s } }\n", d.name, d.addr, d.provider, d.model)
	}
	fmt.Fprintf(&yaml, "  chained: { preset: llm, url: \"http://%s\", token: test-key, llm: { model: gpt-4o, fallbacks: [{ provider: anthropic, url: \"http://%s\", token: k, model: claude-sonnet-4-5 }] } }\n",
		refusing.Addr, good.Addr)
	g, err := s.gateway(ctx, yaml.String())
	if err != nil {
		return err
	}
	defer g.close()
	for _, name := range []string{"openai", "anthropic", "gemini", "ollama"} {
		s.expect(name+": chat", g.call(ctx, name+"__chat", `{"prompt":"three words"}`), `"answer":"alpha beta gamma"`)
		if name != "gemini" { // of which aimock has no list
			s.expect(name+": list_models", g.call(ctx, name+"__list_models", `{}`), `"model":"`)
		}
	}
	begin := time.Now()
	s.expect("429: waits for Retry-After, then says so", g.call(ctx, "refusing__chat", `{"prompt":"three words"}`), "429")
	s.expect("429: took its time", strconv.FormatBool(time.Since(begin) >= time.Second), "true")
	s.expect("connection ends", g.call(ctx, "breaking__chat", `{"prompt":"many words"}`), "ended the connection", "connection ended")
	s.expect("nonsense", g.call(ctx, "babbling__chat", `{"prompt":"three words"}`), "not a part of an answer", "malformed")
	s.expect("fallback", g.call(ctx, "chained__chat", `{"prompt":"three words"}`), `asked as a fallback`)
	s.expect("the others are unharmed", g.call(ctx, "openai__chat", `{"prompt":"three words"}`), "alpha beta gamma")
	return nil
}
