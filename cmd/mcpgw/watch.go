package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mcpgw/mcpgw/gateway"
)

// fullScreen returns what shows a status on the whole terminal, and what gives the terminal back as it was.
func (a *app) fullScreen(base string, interval time.Duration) (show func(*gateway.Status, error) error, end func()) {
	const (
		enter = "\x1b[?1049h\x1b[?25l\x1b[?7l" // the other screen, no cursor, long lines are cut
		leave = "\x1b[?7h\x1b[?25h\x1b[?1049l"
		home  = "\x1b[H"
		rest  = "\x1b[K" // clears to the end of the line
		below = "\x1b[J"
	)
	_, _ = fmt.Fprint(a.stdout, enter)
	v := &view{base: base, interval: interval, paint: paint(colors(a.stdout))}
	show = func(st *gateway.Status, err error) error {
		columns, lines := dimensions(a.stdout)
		text := v.frame(st, err, columns)
		all := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		if len(all) > lines {
			hidden := len(all) - lines + 1
			all = append(all[:lines-1], v.paint.dim(fmt.Sprintf("… %d more lines: make the window larger", hidden)))
		}
		_, err = fmt.Fprint(a.stdout, home+strings.Join(all, rest+"\r\n")+rest+below)
		return err
	}
	return show, func() { _, _ = fmt.Fprint(a.stdout, leave) }
}

// view draws one status after the other and knows the one before, from which the rates come.
type view struct {
	base     string
	interval time.Duration
	paint    paint
	last     *gateway.Status
}

// column is a part of the table. The last one takes what is left of the line.
type column struct {
	head  string
	right bool
}

var columns = []column{{"SERVER", false}, {"STATE", false}, {"CIRCUIT", false}, {"TOOLS", true}, {"IN FLIGHT", true}, {"QUEUED", true}, {"CALLS/S", true}, {"FAILED", true}, {"NEXT TRY", true}, {"LAST ERROR", false}}

// cell is a text and its colour.
type cell struct {
	text string
	ink  func(string) string
}

// frame draws a status for a terminal of the given width. Without a status it tells why there is none and shows the last one.
func (v *view) frame(st *gateway.Status, err error, width int) string {
	p := v.paint
	var b strings.Builder
	if err != nil {
		why, _, _ := strings.Cut(err.Error(), "\n")
		fmt.Fprintf(&b, "%s  %s\n\n", p.bold("mcpgw"), p.red(cut(why+" — asking again every "+v.interval.String(), width-7)))
		if st = v.last; st == nil {
			return b.String()
		}
		b.WriteString(p.dim(fmt.Sprintf("as it was at %s:", st.Time.Local().Format("15:04:05"))) + "\n\n")
	} else {
		s := &st.Summary
		fmt.Fprintf(&b, "%s  %s   %s ready   circuits %s   %s\n\n", p.bold("mcpgw"), v.health(s.Health),
			p.bold(fmt.Sprintf("%d/%d", s.Ready, s.Total)), v.circuits(s), p.dim(v.base+" · "+st.Time.Local().Format("15:04:05")+" · every "+v.interval.String()))
	}
	rows := make([][]cell, len(st.Downstreams))
	for i := range st.Downstreams {
		rows[i] = v.row(st, &st.Downstreams[i])
	}
	v.table(&b, rows, width)
	if len(rows) == 0 {
		b.WriteString(p.dim("no servers: mcpgw add NAME URL, or mcpgw add NAME -- COMMAND") + "\n")
	}
	if err == nil {
		v.last = st
		b.WriteString("\n" + p.dim("Ctrl+C ends") + "\n")
	}
	return b.String()
}

func (v *view) health(h string) string {
	switch h {
	case "healthy":
		return v.paint.green("● " + h)
	case "unhealthy":
		return v.paint.red("● " + h)
	}
	return v.paint.yellow("● " + h)
}

// circuits counts states, and leaves out those that there are none of.
func (v *view) circuits(s *gateway.Summary) string {
	parts := []string{v.paint.green(fmt.Sprintf("%d closed", s.Closed))}
	for _, k := range []struct {
		n    int
		what string
		ink  func(string) string
	}{{s.HalfOpen, "half open", v.paint.yellow}, {s.Open, "open", v.paint.red}, {s.Isolated, "isolated", v.paint.red}, {s.Disabled, "disabled", v.paint.yellow}} {
		if k.n > 0 {
			parts = append(parts, k.ink(fmt.Sprintf("%d %s", k.n, k.what)))
		}
	}
	return strings.Join(parts, " ")
}

// circuitOf returns the circuit of a downstream as a whole.
func circuitOf(st *gateway.Status, name string) *gateway.CircuitStatus {
	if st == nil {
		return nil
	}
	for i := range st.Circuits {
		if c := &st.Circuits[i]; c.Dependency == name && c.Key == nil {
			return c
		}
	}
	return nil
}

func (v *view) row(st *gateway.Status, d *gateway.DownstreamStatus) []cell {
	p := v.paint
	state := cell{"● " + d.State, p.yellow}
	switch d.State {
	case "ready":
		state.ink = p.green
	case "stopped":
		state.ink = p.red
	}
	next := d.RetryAfterMS
	failed, queued, rate, circuit := cell{"-", p.dim}, cell{"-", p.dim}, cell{"-", p.dim}, cell{"-", p.dim}
	if c := circuitOf(st, d.Name); c != nil {
		circuit = v.circuit(st, c)
		if c.State == "open" && c.RetryAfterMS > 0 && next == nil {
			next = &c.RetryAfterMS
		}
		if n := c.Failures + c.Successes; n > 0 {
			failed = cell{fmt.Sprintf("%.0f %%", 100*float64(c.Failures)/float64(n)), plainInk}
			if c.Failures > 0 {
				failed.ink = p.red
			}
		}
		if c.Bulkhead != nil {
			queued = quiet(c.Bulkhead.Queued, p)
		}
		if was := circuitOf(v.last, d.Name); was != nil && st.Time.After(v.last.Time) && total(c) >= total(was) {
			rate = cell{fmt.Sprintf("%.1f", float64(total(c)-total(was))/st.Time.Sub(v.last.Time).Seconds()), plainInk}
			if rate.text == "0.0" {
				rate = cell{"0", p.dim}
			}
		}
	}
	tools := cell{strconv.Itoa(d.Tools), plainInk}
	if d.CatalogStale {
		tools = cell{strconv.Itoa(d.Tools) + "*", p.yellow}
	}
	retry := cell{"-", p.dim}
	if next != nil {
		retry = cell{countdown(time.Duration(*next) * time.Millisecond), p.cyan}
	}
	last := cell{"-", p.dim}
	if d.LastError != nil {
		last = cell{*d.LastError, p.dim}
		if d.LastErrorAt != nil {
			last.text = ago(st.Time.Sub(*d.LastErrorAt)) + ": " + last.text
		}
		if d.State != "ready" {
			last.ink = p.red
		}
	}
	return []cell{{d.Name, p.bold}, state, circuit, tools, quiet(d.InFlight, p), queued, rate, failed, retry, last}
}

// circuit tells the state of a circuit, and of those of single tools that do not let calls pass.
func (v *view) circuit(st *gateway.Status, c *gateway.CircuitStatus) cell {
	s := cell{strings.ReplaceAll(c.State, "_", " "), v.paint.green}
	switch c.State {
	case "open", "isolated":
		s.ink = v.paint.red
	case "half_open", "disabled":
		s.ink = v.paint.yellow
	}
	tools := 0
	for i := range st.Circuits {
		if k := &st.Circuits[i]; k.Dependency == c.Dependency && k.Key != nil && (k.State == "open" || k.State == "isolated") {
			tools++
		}
	}
	if tools > 0 {
		s.text += fmt.Sprintf(" +%d", tools)
		s.ink = v.paint.yellow
	}
	return s
}

// total counts the calls that a circuit has seen since it was made.
func total(c *gateway.CircuitStatus) uint64 {
	return c.Totals.Successes + c.Totals.Failures + c.Totals.Ignored
}

// table writes rows with aligned columns, no wider than the terminal.
func (v *view) table(b *strings.Builder, rows [][]cell, width int) {
	const gap = 2
	last := len(columns) - 1
	widths := make([]int, len(columns))
	for i, c := range columns {
		widths[i] = len(c.head)
		for _, r := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(r[i].text))
		}
	}
	used := 0
	for _, w := range widths[:last] {
		used += w + gap
	}
	widths[last] = max(width-used, 10)
	line := func(cells []cell) {
		var out strings.Builder
		for i, c := range cells {
			text := c.text
			if i == last {
				text = cut(text, widths[i])
			}
			pad := strings.Repeat(" ", max(widths[i]-utf8.RuneCountInString(text), 0))
			switch {
			case i == last:
				out.WriteString(c.ink(text))
			case columns[i].right:
				out.WriteString(pad + c.ink(text) + strings.Repeat(" ", gap))
			default:
				out.WriteString(c.ink(text) + pad + strings.Repeat(" ", gap))
			}
		}
		b.WriteString(strings.TrimRight(out.String(), " ") + "\n")
	}
	if len(rows) > 0 {
		heads := make([]cell, len(columns))
		for i, c := range columns {
			heads[i] = cell{c.head, v.paint.dim}
		}
		line(heads)
	}
	for _, r := range rows {
		line(r)
	}
}

func plainInk(s string) string { return s }

// quiet shows a number that is nothing as such.
func quiet(n int, p paint) cell {
	if n == 0 {
		return cell{"0", p.dim}
	}
	return cell{strconv.Itoa(n), p.bold}
}

func countdown(d time.Duration) string {
	if d < time.Second {
		return "now"
	}
	return "in " + d.Round(time.Second).String()
}

func ago(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(max(d, 0).Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	}
	return fmt.Sprintf("%dd ago", int(d.Hours()/24))
}

// plainWatch returns what prints a line for each downstream whose state or circuit changed, for logs and pipes.
func (a *app) plainWatch(base string) func(*gateway.Status, error) error {
	said := map[string]string{}
	say := func(at time.Time, key, line string) error {
		if said[key] == line {
			return nil
		}
		said[key] = line
		_, err := fmt.Fprintf(a.stdout, "%s %s\n", at.Local().Format("15:04:05"), line)
		return err
	}
	return func(st *gateway.Status, err error) error {
		if err != nil {
			why, _, _ := strings.Cut(err.Error(), "\n")
			return say(time.Now(), "", why)
		}
		delete(said, "")
		seen := map[string]bool{}
		for i := range st.Downstreams {
			d := &st.Downstreams[i]
			seen[d.Name] = true
			line := d.Name + ": " + d.State
			if c := circuitOf(st, d.Name); c != nil {
				line += ", circuit " + strings.ReplaceAll(c.State, "_", " ")
			}
			line += fmt.Sprintf(", %d tools", d.Tools)
			if d.State != "ready" && d.LastError != nil {
				line += ": " + *d.LastError
			}
			if err := say(st.Time, cmp.Or(d.Name, base), line); err != nil {
				return err
			}
		}
		for name := range said {
			if !seen[name] && name != "" {
				delete(said, name)
				if _, err := fmt.Fprintf(a.stdout, "%s %s: removed\n", st.Time.Local().Format("15:04:05"), name); err != nil {
					return err
				}
			}
		}
		return nil
	}
}
