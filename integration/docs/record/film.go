package main

import (
	"fmt"
	"html"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	columns    = 112
	rows       = 30
	lineHeight = 18 // pixels
	textWidth  = 880
	padding    = 14
)

// film is what a terminal shows in the course of time.
type film struct {
	lines []shown
	now   time.Duration
}

// shown is a line and when it came.
type shown struct {
	text, class string
	at          time.Duration
}

func (f *film) pause(d time.Duration) { f.now += d }

// command shows what is typed, with time to read it.
func (f *film) command(say, line string) {
	if len(f.lines) > 0 {
		f.add("", "")
	}
	if say != "" {
		f.add("# "+say, "c")
		f.pause(1200 * time.Millisecond)
	}
	f.add("$ "+line, "p")
	f.pause(700 * time.Millisecond)
}

// print shows what a command printed, with time to read it.
func (f *film) print(out string) {
	n := 0
	for line := range strings.SplitSeq(strings.TrimRight(out, "\n"), "\n") {
		for line != "" {
			part := line
			if utf8.RuneCountInString(line) > columns {
				part = string([]rune(line)[:columns])
				// Words stay whole where that is possible.
				if at := strings.LastIndexByte(part, ' '); at > columns/2 {
					part = part[:at+1]
				}
			}
			line = line[len(part):]
			f.add(strings.TrimRight(part, " "), class(out))
			n++
		}
	}
	f.pause(1200*time.Millisecond + time.Duration(n)*300*time.Millisecond)
}

func class(out string) string {
	switch {
	case strings.Contains(out, "[error="), strings.Contains(out, ": open since"):
		return "e"
	case strings.Contains(out, "broken: "):
		return "w"
	}
	return "o"
}

func (f *film) add(text, class string) { f.lines = append(f.lines, shown{text, class, f.now}) }

// svg draws the film: each line appears at its time, and the screen scrolls. It begins again at its end. Who wants no motion sees the end.
func (f *film) svg() []byte {
	total := f.now + 4*time.Second
	percent := func(at time.Duration) float64 { return 100 * at.Seconds() / total.Seconds() }
	width, height := textWidth+2*padding, rows*lineHeight+2*padding
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-labelledby="t"><title id="t">A terminal: a simulated system breaks, its circuit opens, it is mended, its circuit closes</title><style>`, width, height)
	b.WriteString("text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;white-space:pre}.o{fill:#d7dae0}.p{fill:#fff;font-weight:600}.c{fill:#8b93a1;font-style:italic}.e{fill:#ff9b8e}.w{fill:#f3c969}")
	fmt.Fprintf(&b, "#s{animation:s %.1fs step-end infinite}", total.Seconds())
	// The screen: one step for each time at which lines came.
	b.WriteString("@keyframes s{0%{transform:translateY(0)}")
	for i, last := range f.lines {
		if i+1 < len(f.lines) && f.lines[i+1].at == last.at {
			continue
		}
		if up := i + 1 - rows; up > 0 {
			fmt.Fprintf(&b, "%.2f%%{transform:translateY(-%dpx)}", percent(last.at), up*lineHeight)
		}
	}
	b.WriteString("}")
	// Lines that come together share a class.
	group := 0
	for i, l := range f.lines {
		if i > 0 && f.lines[i-1].at == l.at {
			continue
		}
		group++
		fmt.Fprintf(&b, ".g%d{animation:g%d %.1fs step-end infinite}@keyframes g%d{0%%{opacity:0}%.2f%%{opacity:1}}", group, group, total.Seconds(), group, percent(l.at)+0.001)
	}
	fmt.Fprintf(&b, "@media (prefers-reduced-motion:reduce){*{animation:none!important}#s{transform:translateY(-%dpx)}}", max(0, len(f.lines)-rows)*lineHeight)
	fmt.Fprintf(&b, `</style><rect width="%d" height="%d" rx="8" fill="#1d2129"/><svg x="%d" y="%d" width="%d" height="%d"><g id="s">`, width, height, padding, padding, width-2*padding, rows*lineHeight)
	group = 0
	for i, l := range f.lines {
		if i == 0 || f.lines[i-1].at != l.at {
			if group > 0 {
				b.WriteString("</g>")
			}
			group++
			fmt.Fprintf(&b, `<g class="g%d">`, group)
		}
		if l.text != "" {
			fmt.Fprintf(&b, `<text class="%s" y="%d" xml:space="preserve">%s</text>`, l.class, i*lineHeight+13, html.EscapeString(l.text))
		}
	}
	b.WriteString("</g></g></svg></svg>\n")
	return []byte(b.String())
}
