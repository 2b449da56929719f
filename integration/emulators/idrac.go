package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

const (
	sushy = "sushy-tools==2.2.0"
	// The mockup server of DMTF is not on PyPI. It needs no version of these in particular.
	mockupNeeds  = "grequests==0.7.0"
	mockupFrom   = "https://github.com/DMTF/Redfish-Mockup-Server"
	mockupCommit = "9a86585f5e93a6b102d5f32bcc20a6cd9fbe9474"
)

func init() {
	emulators = append(emulators, emulator{"idrac", "DMTF's Redfish-Mockup-Server 1.2.6 (GitHub; REDFISH_MOCKUP names a copy) and " + sushy + " (PyPI)", runIDRAC})
}

func runIDRAC(ctx context.Context, s *stage) error {
	if err := runSushy(ctx, s); err != nil {
		return err
	}
	return runMockup(ctx, s)
}

// check is a call with what its result holds.
type check struct{ tool, args, want string }

func (s *stage) checks(ctx context.Context, g *running, list []check) {
	for _, c := range list {
		s.expect(c.tool+" "+c.args, g.call(ctx, c.tool, c.args), c.want)
	}
}

// runSushy: an emulator whose servers change their power, with Basic logins and without sessions.
func runSushy(ctx context.Context, s *stage) error {
	python, err := venv(ctx, "sushy-tools-2.2.0", sushy)
	if err != nil {
		return err
	}
	addr, err := harness.FreeAddr()
	if err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(addr)
	// The file of passwords is htpasswd's: the hash is that of "password", the emulator's own example.
	users, conf := filepath.Join(s.dir, "users"), filepath.Join(s.dir, "sushy.conf")
	const hash = "admin:$2y$05$mYl8KMwM94l4LR/sw1teIeA6P2u8gfX16e8wvT7NmGgAM5r9jgLl.\n"
	if err := os.WriteFile(users, []byte(hash), 0o600); err != nil {
		return err
	}
	settings := fmt.Sprintf("SUSHY_EMULATOR_LISTEN_IP = '127.0.0.1'\nSUSHY_EMULATOR_LISTEN_PORT = %s\nSUSHY_EMULATOR_AUTH_FILE = %q\nSUSHY_EMULATOR_STATE_DIR = %q\nSUSHY_EMULATOR_FAKE_DRIVER = True\n", port, users, s.dir)
	if err := os.WriteFile(conf, []byte(settings), 0o600); err != nil {
		return err
	}
	fake, err := harness.StartHTTP(ctx, harness.Spec{
		Name: "sushy-emulator", Path: filepath.Join(filepath.Dir(python), "sushy-emulator"), Args: []string{"--config", conf, "--fake"}, Dir: s.dir,
	}, addr)
	if err != nil {
		return err
	}
	defer fake.Kill()
	g, err := s.gateway(ctx, fmt.Sprintf(`
gateway: { listen: LISTEN }
downstreams:
  bmc: { preset: idrac, url: "http://%[1]s", username: admin, password: password, access: full }
  wrong: { preset: idrac, url: "http://%[1]s", username: admin, password: not-the-password }
`, addr))
	if err != nil {
		return err
	}
	defer g.close()
	_, _ = fmt.Fprintln(s.out, "  sushy-tools:")
	s.checks(ctx, g, []check{
		{"bmc__systems", `{}`, `"power":"Off"`},
		{"bmc__managers", `{}`, `"managers":{"`},
		{"bmc__hardware", `{}`, `"total":`},
		{"bmc__storage", `{}`, "HTTP 500"},
		{"bmc__firmware", `{}`, "lists no firmware"},
		{"bmc__power", `{}`, `"total":`},
		{"bmc__thermal", `{}`, `"total":`},
		{"bmc__sensors", `{}`, `no list of sensors`},
		{"bmc__event_log", `{}`, `no logs`},
		{"bmc__redfish_get", `{"path":"/redfish/v1/Systems"}`, `Members`},
		{"bmc__power_on", `{}`, `"power":"On"`},
		{"bmc__systems", `{}`, `"power":"On"`},
		{"bmc__boot_once", `{"target":"pxe"}`, `"state":"done"`},
		{"bmc__systems", `{}`, `"boot_override":"Pxe`},
		{"bmc__set_indicator", `{"on":true}`, `"state":"done"`},
		{"bmc__shutdown", `{}`, `"power":"Off"`},
		{"bmc__power_on", `{}`, `"power":"On"`},
		{"bmc__force_power", `{"action":"force_off"}`, `"power":"Off"`},
		{"bmc__power_on", `{}`, `"power":"On"`},
		{"bmc__restart", `{}`, `"state":"`},
		{"wrong__systems", `{}`, "does not accept the user name or password"},
	})
	s.differs("the fake driver has no storage and answers HTTP 500 for its collection, where controllers answer 404 or an empty one",
		"no firmware inventory, no logs and no sensors: the links are missing or lead nowhere",
		"no sessions: only Basic is tried here", "a server is Off right after GracefulRestart")
	return nil
}

// differs prints how an emulator is not as the real system.
func (s *stage) differs(what ...string) {
	for _, w := range what {
		_, _ = fmt.Fprintln(s.out, "  differs:", w)
	}
}

// runMockup: the standard's own example of a server, with sessions, but nothing happens in it.
func runMockup(ctx context.Context, s *stage) error {
	dir, err := mockup(ctx)
	if err != nil {
		return err
	}
	python, err := venv(ctx, "redfish-mockup", mockupNeeds)
	if err != nil {
		return err
	}
	addr, err := harness.FreeAddr()
	if err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(addr)
	fake, err := harness.StartHTTP(ctx, harness.Spec{
		Name: "redfishMockupServer", Path: python, Args: []string{"redfishMockupServer.py", "-H", "127.0.0.1", "-p", port, "-S", "-D", "public-rackmount1"}, Dir: dir,
	}, addr)
	if err != nil {
		return err
	}
	defer fake.Kill()
	g, err := s.gateway(ctx, fmt.Sprintf(`
gateway: { listen: LISTEN }
downstreams:
  basic: { preset: idrac, url: "http://%[1]s", username: root, password: any-password, access: full }
  session: { preset: idrac, url: "http://%[1]s", username: root, password: any-password, idrac: { login: session } }
`, addr))
	if err != nil {
		return err
	}
	defer g.close()
	_, _ = fmt.Fprintln(s.out, "  Redfish-Mockup-Server:")
	for _, how := range []string{"basic", "session"} {
		s.checks(ctx, g, []check{
			{how + "__systems", `{}`, `"437XR1138R2"`},
			{how + "__managers", `{}`, `"BMC"`},
			{how + "__hardware", `{}`, `"kind":"memory"`},
			{how + "__storage", `{}`, `"kind":"drive"`},
			{how + "__firmware", `{}`, `"name":`},
			{how + "__power", `{}`, `"kind":"supply"`},
			{how + "__thermal", `{}`, `"kind":"fan"`},
			{how + "__sensors", `{}`, `"name":"`},
			{how + "__event_log", `{}`, `"message":`},
			{how + "__redfish_get", `{"path":"/redfish/v1/Managers/BMC/NetworkProtocol"}`, `HostName`},
			{how + "__redfish_get", `{"path":"/redfish/v1/None"}`, `HTTP 404`},
		})
	}
	s.checks(ctx, g, []check{
		{"basic__restart", `{"wait":false}`, `"state":"`},
		{"basic__set_indicator", `{"on":true}`, `"state":"done"`},
		{"basic__boot_once", `{"target":"BiosSetup"}`, `"state":"done"`},
		{"basic__power_on", `{}`, "Nothing was done"},
	})
	s.differs("any user name and password are accepted",
		"a reset changes nothing: PowerState stays On")
	return nil
}

// mockup returns the folder of the mockup server.
func mockup(ctx context.Context) (string, error) {
	if dir := os.Getenv("REDFISH_MOCKUP"); dir != "" {
		return filepath.Abs(dir)
	}
	cache, err := harness.Cache(ctx)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "redfish-mockup-server-"+mockupCommit[:12])
	if _, err := os.Stat(filepath.Join(dir, "redfishMockupServer.py")); err == nil {
		return dir, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for _, args := range [][]string{{"clone", "--quiet", mockupFrom, dir}, {"-C", dir, "checkout", "--quiet", mockupCommit}} {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0")
		if err := cmd.Run(); err != nil {
			return "", errors.Join(fmt.Errorf("fetching %s (REDFISH_MOCKUP names a copy instead): %w", mockupFrom, err), os.RemoveAll(dir))
		}
	}
	return dir, nil
}
