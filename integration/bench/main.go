// Command bench measures the gateway beside what it replaces: the server itself, a plain reverse proxy (a hop that understands
// nothing) and the naive gateway that the SDK makes easy. Every part is a process of its own on loopback; every round measures each
// variant once, in rotating order, so that ratios are fair on a noisy machine.
//
//	go run ./integration/bench                    about twenty minutes
//	go run ./integration/bench -short             few rounds, all bars, about three minutes
//	go run ./integration/bench -parts sessions -sessions 5000
//
// It prints Markdown. The exit code is 1 if a bar of issue 2 does not hold.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// bench holds what the flags say.
type bench struct {
	report   *report
	dir      string
	gateway  string
	gogc     string
	rounds   int
	slice    time.Duration
	eras     []bool // modern?
	sizes    []int
	callers  []int
	sessions int
}

func main() {
	var r role
	var text strings.Builder
	var targets string
	flag.StringVar(&r.name, "role", "", "be one of the processes: sdk, raw, static, proxy, naive (the benchmark starts them itself)")
	flag.StringVar(&r.addr, "addr", "127.0.0.1:0", "role: address to listen at")
	flag.BoolVar(&r.modern, "modern", false, "role: speak 2026-07-28")
	flag.IntVar(&r.tools, "tools", 1, "role sdk: number of tools")
	flag.StringVar(&r.prefix, "prefix", "", "role sdk: prefix of the tools' names")
	flag.StringVar(&targets, "targets", "", "roles proxy, naive: servers, with commas between")
	short := flag.Bool("short", false, "1 and 16 callers, one GOGC, fewer and shorter rounds: the bars without the whole picture")
	nRounds := flag.Int("rounds", 0, "rounds (default 10, short 5)")
	slice := flag.Duration("slice", 0, "time for one variant in one round (default 400ms, short 250ms)")
	gogc := flag.String("gogc", "", `values of GOGC for every process, with commas between; "own" leaves each its own (default "400,own", short "400")`)
	era := flag.String("era", "2025-11-25,2026-07-28", "protocol revisions to speak")
	callers := flag.String("callers", "", "callers at the same time (default 1,16,64, short 1,16)")
	sizes := flag.String("sizes", "1,100", "payloads in KB")
	parts := flag.String("parts", "calls,list,faults,sessions", "what to measure")
	page := flag.String("write", "", "also write the results into this page, docs/benchmarks.md")
	gateway := flag.String("gateway", "", "program to measure instead of building it")
	sessions := flag.Int("sessions", 5000, "idle legacy sessions of the part sessions")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if r.name != "" {
		r.targets = strings.Split(targets, ",")
		err = r.serve(ctx)
	} else {
		b := bench{report: &report{out: io.MultiWriter(os.Stdout, &text)}, gateway: *gateway, rounds: 10, slice: 400 * time.Millisecond, callers: []int{1, 16, 64}, sessions: *sessions}
		gogcs := []string{"400", "own"}
		if *short {
			b.rounds, b.slice, b.callers, gogcs = 5, 250*time.Millisecond, []int{1, 16}, gogcs[:1]
		}
		if *nRounds > 0 {
			b.rounds = *nRounds
		}
		if *slice > 0 {
			b.slice = *slice
		}
		if *gogc != "" {
			gogcs = strings.Split(*gogc, ",")
		}
		err = errors.Join(b.set(*era, *callers, *sizes), b.run(ctx, gogcs, strings.Split(*parts, ",")))
		if *page != "" {
			err = errors.Join(err, harness.WriteResults(*page, text.String()))
		}
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// set reads the flags that are lists.
func (b *bench) set(eras, callers, sizes string) error {
	for e := range strings.SplitSeq(eras, ",") {
		if e != harness.Legacy && e != harness.Modern {
			return fmt.Errorf("-era: expected %s or %s, found %q", harness.Legacy, harness.Modern, e)
		}
		b.eras = append(b.eras, e == harness.Modern)
	}
	var err error
	if callers != "" {
		b.callers, err = numbers("-callers", callers)
	}
	kb, err2 := numbers("-sizes", sizes)
	for _, n := range kb {
		b.sizes = append(b.sizes, n<<10)
	}
	return errors.Join(err, err2)
}

func numbers(flagName, s string) ([]int, error) {
	var all []int
	for v := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%s: expected numbers with commas between, found %q", flagName, v)
		}
		all = append(all, n)
	}
	return all, nil
}

func (b *bench) stage() *stage {
	s := &stage{dir: b.dir, gateway: b.gateway}
	if b.gogc != "own" {
		s.gogc = b.gogc
	}
	return s
}

func (b *bench) gogcName() string {
	if b.gogc == "own" {
		return "unset (mcpgw sets its own)"
	}
	return b.gogc + " for all"
}

func (b *bench) run(ctx context.Context, gogcs, parts []string) error {
	for _, p := range parts {
		if !slices.Contains([]string{"calls", "list", "faults", "sessions", "telemetry", "policies"}, p) {
			return fmt.Errorf("-parts: expected calls, list, faults, sessions, telemetry or policies, found %q", p)
		}
	}
	dir, err := os.MkdirTemp("", "mcpgw-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // in the system's temporary folder
	b.dir = dir
	var gatewayErr error
	if b.gateway == "" {
		if b.gateway, gatewayErr = harness.Build(ctx, dir, harness.Gateway); gatewayErr != nil {
			b.gateway = ""
		}
	}
	fmt.Fprintf(b.report.out, "%s %s/%s, %d processors, %d rounds of %s for each variant.\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), b.rounds, b.slice)
	has := func(p string) bool { return slices.Contains(parts, p) }
	for _, gogc := range gogcs {
		b.gogc = gogc
		for _, modern := range b.eras {
			if has("calls") {
				err = errors.Join(err, b.calls(ctx, modern))
			}
			if has("list") {
				err = errors.Join(err, b.list(ctx, modern))
			}
		}
	}
	b.gogc = "own"
	for _, modern := range b.eras {
		if has("telemetry") {
			err = errors.Join(err, b.telemetry(ctx, modern))
		}
		if has("policies") {
			err = errors.Join(err, b.policies(ctx, modern))
		}
		if has("faults") {
			err = errors.Join(err, b.faults(ctx, modern))
		}
	}
	if has("sessions") {
		err = errors.Join(err, b.idleSessions(ctx))
	}
	if failed := b.report.summary(); failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d of %d bars do not hold", failed, len(b.report.bars)))
	}
	return errors.Join(err, gatewayErr)
}
