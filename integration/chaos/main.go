// Command chaos breaks what is around the gateway and checks what the gateway makes of it: 31 scenarios (resilience.md §6) and a few
// more, on real processes over loopback.
//
//	go run ./integration/chaos                       every scenario, a few minutes
//	go run ./integration/chaos -quick                the subset for every change
//	go run ./integration/chaos -quick -invariants    the same on a busy machine: times do not count
//	go run ./integration/chaos -run '^(4|7)$'        some of them, by number or name
//	go run ./integration/chaos -long                 as long as resilience.md §6 says where that is minutes
//	go run ./integration/chaos -soak 1h -seed 1      random faults, which the seed repeats
//
// Each call carries a nonce. Servers write down what they execute, clients what they were told, and after each scenario the two are
// compared. The exit code is 1 if any figure does not hold.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// suite is what all scenarios of one run share.
type suite struct {
	gateway string // the program
	self    string // this program, which is also the servers
	tmp     string
	scale   scale
	keep    bool // keep logs of scenarios that failed

	hasPolicies bool
	invariants  bool // figures that are times do not count
	soak        time.Duration
	seed        uint64
	total       totals
}

// scale says how long scenarios take.
type scale int

const (
	quick scale = iota
	normal
	long
)

// span chooses a length by the scale.
func (s *suite) span(q, n, l time.Duration) time.Duration { return []time.Duration{q, n, l}[s.scale] }

// times chooses a number by the scale.
func (s *suite) times(q, n, l int) int { return []int{q, n, l}[s.scale] }

func main() {
	var role serverRole
	be := flag.String("role", "", `"server": be one of the servers (the program starts them itself)`)
	flag.StringVar(&role.name, "name", "", "role: name of the server")
	flag.StringVar(&role.dir, "dir", "", "role: folder of journal and control file")
	flag.StringVar(&role.addr, "addr", "", "role: address to serve HTTP at; empty for stdio")
	flag.BoolVar(&role.modern, "modern", false, "role: speak 2026-07-28")
	isQuick := flag.Bool("quick", false, "only the scenarios that are for every change, each as short as can be")
	isLong := flag.Bool("long", false, "minutes where resilience.md §6 says minutes")
	pattern := flag.String("run", "", "only scenarios whose number or name matches this `regexp`")
	race := flag.Bool("race", false, "build the gateway with the race detector (times are not checked then)")
	list := flag.Bool("list", false, "list the scenarios")
	verbose := flag.Bool("v", false, "print every figure, not only those that do not hold")
	page := flag.String("write", "", "also write the results into this page, docs/chaos.md")
	program := flag.String("gateway", "", "program to test instead of building it")
	s := &suite{scale: normal}
	flag.DurationVar(&s.soak, "soak", 0, "only the soak, for this long")
	flag.Uint64Var(&s.seed, "seed", 1, "seed of the soak's faults")
	flag.BoolVar(&s.invariants, "invariants", false, "show times, but judge only what holds on a busy machine too")
	flag.BoolVar(&s.keep, "keep", false, "keep the folders of scenarios that failed")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	switch {
	case *be == "server":
		err = role.run(ctx)
	case *be != "":
		err = fmt.Errorf("-role: expected server, found %q", *be)
	default:
		switch {
		case *isQuick:
			s.scale = quick
		case *isLong:
			s.scale = long
		}
		err = s.run(ctx, *pattern, *program, *page, *list, *verbose, *race)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func (s *suite) run(ctx context.Context, pattern, program, page string, list, verbose, race bool) error {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	var chosen []scenario
	for _, sc := range scenarios {
		matches := re.MatchString(strconv.Itoa(sc.number)) || re.MatchString(sc.name)
		switch {
		case s.soak > 0:
			matches = sc.number == soakNumber
		case s.scale == quick && pattern == "":
			matches = sc.quick
		}
		if matches {
			chosen = append(chosen, sc)
		}
	}
	if list {
		for _, sc := range chosen {
			fmt.Printf("%2d  %-28s %s\n", sc.number, sc.name, sc.asked)
		}
		return nil
	}
	if len(chosen) == 0 {
		return fmt.Errorf("-run: no scenario matches %q", pattern)
	}
	if s.tmp, err = os.MkdirTemp("", "mcpgw-chaos-"); err != nil {
		return err
	}
	defer func() {
		if !s.keep {
			_ = os.RemoveAll(s.tmp)
		}
	}()
	if s.self, err = os.Executable(); err != nil {
		return err
	}
	var flags []string
	if race {
		flags = append(flags, "-race")
	}
	if s.gateway = program; program == "" {
		if s.gateway, err = harness.Build(ctx, s.tmp, harness.Gateway, flags...); err != nil {
			return err
		}
	}
	if s.hasPolicies, err = s.askPolicies(ctx); err != nil {
		return err
	}
	rep := &report{verbose: verbose, scale: s.scale}
	begin := time.Now()
	for _, sc := range chosen {
		res := s.scenario(ctx, sc, race)
		rep.add(res)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	text := rep.table(s.total, time.Since(begin))
	fmt.Println("\n" + text)
	var errs []error
	if page != "" {
		errs = append(errs, harness.WriteResults(page, text))
	}
	if n := rep.failed(); n > 0 {
		errs = append(errs, fmt.Errorf("%d of %d scenarios failed", n, len(chosen)))
	}
	return errors.Join(errs...)
}

// askPolicies reports whether the gateway has the section resilience.
func (s *suite) askPolicies(ctx context.Context) (bool, error) {
	var out strings.Builder
	p, err := harness.Start(ctx, harness.Spec{Name: "mcpgw schema", Path: s.gateway, Args: []string{"schema"}, Stdout: &out})
	if err != nil {
		return false, err
	}
	<-p.Done()
	return strings.Contains(out.String(), `"resilience"`), nil
}
