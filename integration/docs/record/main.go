// The program record makes docs/img/terminal.svg: a session at a terminal with a real gateway, in which a simulated system breaks and is
// mended, as an animated picture. What is typed is below; what is printed is what the commands printed.
//
//	go run ./integration/docs/record                    with the gateway.yaml of the repository
//	go run ./integration/docs/record -config FILE -out FILE.svg
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// act is one command of the session.
type act struct {
	say   string // a comment above it
	line  string
	until string // repeat it, unseen, until it prints this
}

// session is what is typed. The gateway runs already.
var session = []act{
	{say: "mcpgw serve runs in another window, with the gateway.yaml of the repository", line: "mcpgw lab list"},
	{line: "mcpgw call proxmox__guests limit=3"},
	{say: "now break one of them, and call it until its circuit opens", line: "mcpgw lab break proxmox --fault refuse | grep proxmox"},
	{line: "mcpgw call proxmox__guests limit=3"},
	{line: "mcpgw call proxmox__guests limit=3"},
	{line: "mcpgw call proxmox__guests limit=3"},
	{line: "mcpgw status | grep \"circuit 'proxmox'\""},
	{say: "the others do not notice", line: "mcpgw call host__memory"},
	{say: "mend it: the gateway finds out by itself", line: "mcpgw lab mend proxmox | grep proxmox"},
	{say: "half a minute later", line: "mcpgw status | grep \"circuit 'proxmox'\"", until: "'proxmox': closed"},
	{line: "mcpgw call proxmox__guests limit=3"},
}

func main() {
	config := flag.String("config", "", "`file` of the gateway (default gateway.yaml of the repository)")
	out := flag.String("out", "", "`file` to write (default docs/img/terminal.svg of the repository)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *config, *out)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, config, out string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	root, err := harness.Root(ctx)
	if err != nil {
		return err
	}
	if config == "" {
		config = filepath.Join(root, "gateway.yaml")
	}
	if out == "" {
		out = filepath.Join(root, "docs", "img", "terminal.svg")
	}
	yaml, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mcpgw-record-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	bin, err := harness.Build(ctx, dir, "./cmd/mcpgw")
	if err != nil {
		return err
	}
	gateway, err := harness.StartGateway(ctx, bin, dir, strings.ReplaceAll(string(yaml), "127.0.0.1:8080", "LISTEN"))
	if err != nil {
		return err
	}
	defer gateway.Kill()
	t := &terminal{dir: dir, bin: bin}
	if err := gateway.Until(ctx, "the servers to be ready", func() error {
		_, err := t.output(ctx, "mcpgw check --timeout 10s")
		return err
	}); err != nil {
		return err
	}
	var film film
	for _, a := range session {
		if err := t.play(ctx, &film, a); err != nil {
			return err
		}
	}
	svg := film.svg()
	const most = 150 << 10
	if len(svg) > most {
		return fmt.Errorf("the picture has %d bytes, which is too much for a page", len(svg))
	}
	if err := os.WriteFile(out, svg, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "%s: %d lines, %s, %d bytes\n", filepath.Base(out), len(film.lines), film.now.Round(time.Second), len(svg))
	return nil
}

// terminal runs the commands.
type terminal struct{ dir, bin string }

// output runs a command by the shell and returns what it prints, errors included.
func (t *terminal) output(ctx context.Context, line string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", line)
	cmd.Dir = t.dir
	cmd.Env = []string{"PATH=" + filepath.Dir(t.bin) + string(os.PathListSeparator) + os.Getenv("PATH"), "HOME=" + t.dir, "NO_COLOR=1"}
	cmd.WaitDelay = time.Second
	b, err := cmd.CombinedOutput()
	return string(b), err
}

// play runs one command and puts it on the film. A pause of more than a few seconds is shown shorter than it was.
func (t *terminal) play(ctx context.Context, f *film, a act) error {
	for {
		began := time.Now()
		out, err := t.output(ctx, a.line)
		if exit := (*exec.ExitError)(nil); err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 4) { // 4: the answer of the call is an error
			return fmt.Errorf("%s: %w\n%s", a.line, err, out)
		}
		if !strings.Contains(out, a.until) {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("%s never printed %q: %w", a.line, a.until, err)
			}
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			continue
		}
		f.command(a.say, a.line)
		f.pause(min(time.Since(began), 2500*time.Millisecond))
		f.print(withoutProgress(out))
		return nil
	}
}

// withoutProgress leaves out the lines that a terminal would overwrite, but for the last one of each attempt.
func withoutProgress(out string) string {
	var b strings.Builder
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "mcpgw: calling") && !strings.Contains(line, "failed") || strings.HasSuffix(line, "s, 1s\n") {
			continue
		}
		b.WriteString(line)
	}
	return b.String()
}
