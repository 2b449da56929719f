package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"
)

// terminal says whether a person looks at w, or types into it.
func terminal(w any) bool {
	if l, ok := w.(*lockedWriter); ok {
		w = l.w
	}
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// width returns the columns and lines of the terminal w.
func dimensions(w any) (columns, lines int) {
	if f, ok := w.(*os.File); ok {
		if c, l, err := term.GetSize(int(f.Fd())); err == nil && c > 0 {
			return c, l
		}
	}
	return 100, 40
}

// colors says whether w may have colours: see https://no-color.org.
func colors(w any) bool {
	return terminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// paint makes texts coloured, or leaves them as they are.
type paint bool

func (p paint) in(code, s string) string {
	if !p || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p paint) bold(s string) string   { return p.in("1", s) }
func (p paint) dim(s string) string    { return p.in("2", s) }
func (p paint) red(s string) string    { return p.in("31", s) }
func (p paint) green(s string) string  { return p.in("32", s) }
func (p paint) yellow(s string) string { return p.in("33", s) }
func (p paint) cyan(s string) string   { return p.in("36", s) }

// untilSignal returns a context that ends with SIGINT or SIGTERM.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// lockedWriter may be used by several goroutines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// progress tells on the error stream what takes longer than a second. The zero value tells nothing.
type progress struct {
	a    *app
	mu   sync.Mutex
	text string // what is being done
	quit chan struct{}
	wg   sync.WaitGroup
}

// patience is how long something may take without a word.
const patience = time.Second

// working begins to do something that may take long. The caller ends it with done.
func (a *app) working(what string) *progress {
	p := &progress{a: a, text: what, quit: make(chan struct{})}
	p.wg.Go(p.run)
	return p
}

// say changes what is told.
func (p *progress) say(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = what
}

// done ends the telling and waits until nothing more is written.
func (p *progress) done() {
	close(p.quit)
	p.wg.Wait()
}

func (p *progress) run() {
	begun, first := time.Now(), time.NewTimer(patience)
	defer first.Stop()
	select {
	case <-p.quit:
		return
	case <-first.C:
	}
	moving := terminal(p.a.stderr)
	pause := 200 * time.Millisecond
	if !moving {
		pause = 10 * time.Second // a line now and then, for logs
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for i := 0; ; i++ {
		p.mu.Lock()
		text := p.text
		p.mu.Unlock()
		elapsed := time.Since(begun).Round(time.Second)
		if moving {
			columns, _ := dimensions(os.Stderr)
			line := fmt.Sprintf("%s %s, %s", string([]rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")[i%10]), text, elapsed)
			_, _ = fmt.Fprintf(p.a.stderr, "\r\x1b[K%s", cut(line, columns-1))
		} else {
			_, _ = fmt.Fprintf(p.a.stderr, "mcpgw: %s, %s\n", text, elapsed)
		}
		select {
		case <-p.quit:
			if moving {
				_, _ = fmt.Fprint(p.a.stderr, "\r\x1b[K")
			}
			return
		case <-tick.C:
		}
	}
}

// cut shortens s to n characters, and makes one line of it.
func cut(s string, n int) string {
	r := []rune(strings.Join(strings.Fields(s), " "))
	if len(r) <= n {
		return string(r)
	}
	return string(r[:max(n-1, 0)]) + "…"
}
