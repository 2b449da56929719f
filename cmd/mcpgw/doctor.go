package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcpgw/mcpgw/internal/config"
)

// finding is one thing that doctor looked at.
type finding struct {
	What    string `json:"what"`
	Verdict string `json:"verdict"` // ok, warning or fault
	Says    string `json:"says"`
	Mend    string `json:"mend,omitempty"`
}

// examination is what doctor found, as --output json prints it.
type examination struct {
	Healthy  bool      `json:"healthy"`
	Findings []finding `json:"findings"`
}

func (a *app) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what keeps the gateway from working",
		Long: `Look for what keeps the gateway from working: the configuration, the environment variables in it, the port, the gateway that runs, the commands of
its servers, name resolution, connection and certificate of every URL, the clock, the limit of open files. It starts no server and sends no
credentials. Every fault comes with what mends it.

` + exitCodes,
		Args: cobra.NoArgs,
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context(), *out) }
	return cmd
}

func (a *app) doctor(ctx context.Context, out output) error {
	ctx, stop := untilSignal(ctx)
	defer stop()
	p := a.working("looking")
	var x examination
	x.file(ctx, a)
	x.clock(time.Now())
	x.limits()
	p.done()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	x.Healthy = !slices.ContainsFunc(x.Findings, func(f finding) bool { return f.Verdict == "fault" })
	var err error
	if out == "json" {
		err = a.printJSON(&x)
	} else {
		_, err = fmt.Fprint(a.stdout, x.text(paint(colors(a.stdout))))
	}
	if err == nil && !x.Healthy {
		return &exitError{code: exitNotReady}
	}
	return err
}

func (x *examination) add(verdict, what, mend, format string, args ...any) {
	x.Findings = append(x.Findings, finding{what, verdict, fmt.Sprintf(format, args...), mend})
}

// text tells the findings to a person, the verdict last.
func (x *examination) text(p paint) string {
	var b strings.Builder
	marks := map[string]string{"ok": p.green("✔"), "warning": p.yellow("!"), "fault": p.red("✘")}
	faults, warnings := 0, 0
	for _, f := range x.Findings {
		fmt.Fprintf(&b, "%s %s: %s\n", marks[f.Verdict], p.bold(f.What), f.Says)
		if f.Mend != "" {
			fmt.Fprintf(&b, "    %s %s\n", p.cyan("→"), f.Mend)
		}
		switch f.Verdict {
		case "fault":
			faults++
		case "warning":
			warnings++
		}
	}
	b.WriteByte('\n')
	switch {
	case faults > 0:
		fmt.Fprintf(&b, "%s\n", p.red(count(faults, "fault")+" to be mended."))
	case warnings > 0:
		fmt.Fprintf(&b, "%s\n", p.yellow("Nothing is broken; "+count(warnings, "thing")+" to know."))
	default:
		fmt.Fprintf(&b, "%s\n", p.green("All is well."))
	}
	return b.String()
}

// file looks at the configuration and all that it names.
func (x *examination) file(ctx context.Context, a *app) {
	path, err := a.find()
	if err != nil {
		x.add("fault", "configuration", "mcpgw init writes one", "there is none in the usual places")
		return
	}
	data, err := os.ReadFile(path) //nolint:gosec // the file is the one that the user names
	if err != nil {
		x.add("fault", "configuration", "name another file with --config, or mend its permissions", "%v", err)
		return
	}
	unset, err := config.Verify(path, data)
	if e, ok := errors.AsType[*config.Error](err); ok {
		for _, f := range e.Faults {
			x.add("fault", "configuration", "", "%s", f)
		}
		return
	}
	x.add("ok", "configuration", "", "%s is valid", path)
	for _, name := range unset {
		x.add("fault", "environment", fmt.Sprintf("export %s=…, or write ${%s:-default} into the file", name, name), "%s is named in the file and not set here", name)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o022 != 0 {
		x.add("warning", "configuration", "chmod go-w "+quoteShell(path), "others may change it, and with it what is started")
	}
	if len(unset) > 0 {
		return // what follows would be guessed
	}
	file, _, err := config.Load(path)
	if err != nil {
		x.add("fault", "configuration", "", "%v", err)
		return
	}
	for _, w := range file.Warnings {
		x.add("warning", "configuration", "", "%s", w)
	}
	x.running(ctx, a, file)
	x.servers(ctx, file)
}

// running looks at the address and at who answers there.
func (x *examination) running(ctx context.Context, a *app, file *config.File) {
	if err := exposed(ctx, &file.Settings, false); err != nil {
		x.add("fault", "address", "", "%v", err)
	}
	r, err := a.remote("")
	if err != nil {
		x.add("fault", "address", "", "%v", err)
		return
	}
	listen := file.Settings.Gateway.Listen
	st, err := r.status(ctx)
	if err == nil {
		if st.Summary.Health == "healthy" {
			x.add("ok", "gateway", "", "one runs at %s, %d of %d servers ready", r.base, st.Summary.Ready, st.Summary.Total)
		} else {
			x.add("warning", "gateway", "mcpgw status says what is wrong with them", "one runs at %s, %d of %d servers ready (%s)", r.base, st.Summary.Ready, st.Summary.Total, st.Summary.Health)
		}
		return
	}
	if _, away := errors.AsType[*unreachableError](err); !away {
		x.add("fault", "gateway", "another program, or a gateway with other tokens, has the address: choose another gateway.listen, or stop it", "what answers at %s is not this gateway: %s", r.base, cut(err.Error(), 200))
		return
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		x.add("fault", "address", "stop the program that has it (lsof -i :PORT), or change gateway.listen", "%s cannot be listened on: %v", listen, err)
		return
	}
	_ = l.Close() // it was only tried
	x.add("warning", "gateway", "mcpgw serve starts it", "none runs; %s is free", listen)
}

// servers looks at what each downstream needs, all at the same time.
func (x *examination) servers(ctx context.Context, file *config.File) {
	var (
		wg sync.WaitGroup
		mu sync.Mutex
		by = map[string][]finding{}
	)
	for name, cfg := range file.Settings.Downstreams {
		if cfg.Disabled {
			continue
		}
		wg.Go(func() {
			var one examination
			switch {
			case cfg.Command != "":
				one.command(name, cfg.Command, cfg.Dir)
			case cfg.URL != "" && cfg.URL != "lab":
				one.url(ctx, name, cfg.URL)
			}
			mu.Lock()
			defer mu.Unlock()
			by[name] = one.Findings
		})
	}
	wg.Wait()
	names := make([]string, 0, len(by))
	for name := range by {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		x.Findings = append(x.Findings, by[name]...)
	}
}

// installers says what brings a command that is missing.
var installers = map[string]string{
	"npx": "install Node.js (https://nodejs.org)", "node": "install Node.js (https://nodejs.org)", "uvx": "install uv (https://docs.astral.sh/uv)",
	"uv": "install uv (https://docs.astral.sh/uv)", "docker": "install Docker, or Podman and write command: podman", "python": "install Python, or write command: python3",
	"bunx": "install Bun (https://bun.sh)", "deno": "install Deno (https://deno.com)", "dnx": "install the .NET SDK 10 or newer",
}

func (x *examination) command(name, command, dir string) {
	if dir != "" {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			x.add("fault", name, fmt.Sprintf("mend downstreams.%s.dir", name), "the folder %s is not there", dir)
			return
		}
		if strings.ContainsRune(command, os.PathSeparator) && !filepath.IsAbs(command) {
			command = filepath.Join(dir, command)
		}
	}
	path, err := exec.LookPath(command)
	if err != nil && !errors.Is(err, exec.ErrDot) {
		mend := installers[filepath.Base(command)]
		if mend == "" {
			mend = "install it, or write the whole path: services have a shorter PATH than your shell"
		}
		x.add("fault", name, mend, "the command %s cannot be started: %v", command, errors.Unwrap(err))
		return
	}
	x.add("ok", name, "", "the command is %s", path)
}

// url looks at an address step by step, so that the step that fails says what to mend.
func (x *examination) url(ctx context.Context, name, address string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		x.add("fault", name, "", "url is no address")
		return
	}
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "ws": "80", "wss": "443"}[u.Scheme]
	}
	if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u}); err == nil && proxy != nil {
		x.add("warning", name, "", "%s is reached through the proxy %s; the connection was not tried", host, proxy.Redacted())
		return
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		x.add("fault", name, "check the name, and the resolver of this machine: nslookup "+host, "%s has no address: %v", host, err)
		return
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		mend := "is the server running, and does a firewall let port " + port + " through?"
		x.add("fault", name, mend, "%s (%s) does not take connections on port %s: %v", host, strings.Join(addresses, ", "), port, errors.Unwrap(err))
		return
	}
	_ = conn.Close() // it was only tried
	if u.Scheme != "https" && u.Scheme != "wss" {
		x.add("ok", name, "", "%s takes connections on port %s", host, port)
		return
	}
	c := inspect(ctx, net.JoinHostPort(host, port), host)
	switch {
	case c.err != nil && c.notAfter.IsZero():
		x.add("fault", name, "is it an http:// address?", "no TLS at %s:%s: %v", host, port, c.err)
	case c.err != nil:
		x.add("fault", name, "give the server a certificate that this machine trusts, or its authority to this machine (a preset: docs/configuration.md, tls)", "the certificate of %s is not trusted: %v", host, c.err)
	case time.Until(c.notAfter) < soon:
		x.add("warning", name, "renew it", "%s", c.expiry(time.Now()))
	default:
		x.add("ok", name, "", "%s takes connections on port %s, its certificate is good until %s", host, port, c.notAfter.Format(time.DateOnly))
	}
}

// clock looks for a clock that cannot be right: certificates would not be valid, and tokens not yet or no more.
func (x *examination) clock(now time.Time) {
	built := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if now.Before(built) || now.Year() > built.Year()+20 {
		x.add("fault", "clock", "set it: timedatectl set-ntp true", "it says %s", now.Format(time.RFC3339))
		return
	}
	x.add("ok", "clock", "", "%s", now.Format(time.RFC3339))
}
