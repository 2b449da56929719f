package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMessagesOfTheFAQ wants every message that docs/faq.md explains (first column, in backquotes) to be one that the program has. An
// ellipsis stands for what is filled in.
func TestMessagesOfTheFAQ(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	var source bytes.Buffer
	for _, dir := range []string{"cmd", "gateway", "downstream", "resilience", "telemetry", "internal/config"} {
		err := filepath.WalkDir(filepath.Join(root, filepath.FromSlash(dir)), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			source.Write(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	text := strings.ReplaceAll(source.String(), `\"`, `"`)
	page, err := os.ReadFile(filepath.Join(root, "docs", "faq.md"))
	if err != nil {
		t.Fatal(err)
	}
	messages := 0
	for line := range strings.Lines(string(page)) {
		message, ok := strings.CutPrefix(line, "| `")
		if !ok {
			continue
		}
		message, _, _ = strings.Cut(message, "`")
		messages++
		for piece := range strings.SplitSeq(message, "…") {
			if piece = strings.TrimSpace(piece); !strings.Contains(text, piece) {
				t.Errorf("docs/faq.md explains %q, but no part of the program says %q", message, piece)
			}
		}
	}
	if messages < 30 {
		t.Errorf("docs/faq.md explains %d messages: is the table still as this test expects it?", messages)
	}
}
