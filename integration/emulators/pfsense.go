package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/integration/internal/harness"
)

// The emulator is Stoplight Prism, which answers from the OpenAPI document that the REST API package generates of itself and checks each
// request against it. The document (Apache 2.0, 4 MB) is not kept here; a public copy of version 2.7.1 is fetched.
const (
	prism         = "@stoplight/prism-cli@5.16.0"
	pfsenseDoc    = "https://raw.githubusercontent.com/abl030/pfsense-mcp/e9cc8067e86fbd8f268cf4656a2649feed95202b/openapi-spec.json"
	pfsenseDocSum = "fcde403b22f2822719875994d4731b50e2781ab03390321fb81339e94666ec57"
)

func init() {
	emulators = append(emulators, emulator{"pfsense", prism + " (npm) with the OpenAPI document of the REST API package 2.7.1; PFSENSE_OPENAPI names another", runPfSense})
}

// runPfSense calls every tool of the preset against Prism.
func runPfSense(ctx context.Context, s *stage) error {
	doc, err := pfsenseDocument(ctx)
	if err != nil {
		return err
	}
	if doc, err = mended(doc, s.dir); err != nil {
		return err
	}
	node, err := harness.InstallNode(ctx)
	if err != nil {
		return err
	}
	program, err := node.Install(ctx, prism, "prism", false)
	if err != nil {
		return err
	}
	addr, err := harness.FreeAddr()
	if err != nil {
		return err
	}
	host, port, _ := strings.Cut(addr, ":")
	mock, err := harness.StartHTTP(ctx, harness.Spec{
		Name: "prism", Path: program, Args: []string{"mock", "-h", host, "-p", port, doc},
		Env: []string{"PATH=" + node.PATH(), "HOME=" + s.dir, "NO_COLOR=1"},
	}, addr)
	if err != nil {
		return err
	}
	defer mock.Kill()
	g, err := s.gateway(ctx, `
gateway: { listen: LISTEN }
downstreams:
  key: { preset: pfsense, url: "http://`+addr+`", token: any, access: full }
  basic: { preset: pfsense, url: "http://`+addr+`", username: any, password: any-password }
`)
	if err != nil {
		return err
	}
	defer g.close()
	err = g.server.Until(ctx, "its servers", func() error {
		raw, err := g.client.Request(ctx, "tools/list", "", `{}`)
		if list := string(raw); err == nil && (!strings.Contains(list, `"key__overview"`) || !strings.Contains(list, `"basic__overview"`)) {
			err = errors.New("not all tools are there")
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, call := range pfsenseCalls() {
		s.expect(call.tool+" "+call.args, g.call(ctx, call.tool, call.args), call.want)
	}
	s.expect("no request breaks the document", strconv.Itoa(strings.Count(mock.Log(), "Violation: request")), "0")
	return nil
}

type pfsenseCall struct{ tool, args, want string }

// pfsenseCalls are calls with what their result holds. Prism fills texts with "string" and numbers with 0: that is what the objects are called.
func pfsenseCalls() []pfsenseCall {
	calls := []pfsenseCall{
		{"basic__overview", `{}`, `"host":"string.string"`},
		{"key__overview", `{}`, `"version":"string"`},
		{"key__rules", `{}`, `"type":"pass"`},
		{"key__aliases", `{"fields":["name","detail"]}`, `"name":"string"`},
		{"key__dhcp_leases", `{}`, `"ip":"string"`},
	}
	for tool, kinds := range map[string]string{
		"network": "interfaces gateways arp vlans routes", "nat": "port_forwards outbound one_to_one", "dns": "host_overrides domain_overrides settings servers",
		"vpn": "openvpn_servers openvpn_clients ipsec", "inventory": "services packages config_history certificates", "logs": "firewall system dhcp openvpn auth",
	} {
		for kind := range strings.FieldsSeq(kinds) {
			calls = append(calls, pfsenseCall{"key__" + tool, `{"kind":"` + kind + `"}`, `"total":1`})
		}
	}
	slices.SortFunc(calls, func(a, b pfsenseCall) int { return strings.Compare(a.tool+a.args, b.tool+b.args) })
	return append(calls,
		// Later versions of the package have these; what is not there is told.
		pfsenseCall{"key__vpn", `{"kind":"wireguard_peers"}`, "HTTP 404"},
		pfsenseCall{"key__vpn", `{"kind":"wireguard_tunnels"}`, "HTTP 404"},
		pfsenseCall{"key__rule_create", `{"type":"pass","interface":["lan"],"source":"any","destination":"any","protocol":"tcp","destination_port":"443","descr":"x","placement":0}`, `"done":"rule added"`},
		pfsenseCall{"key__rule_update", `{"id":0,"expect":{"descr":"string"},"set":{"disabled":true,"log":false},"apply":true}`, `"applied":true`},
		pfsenseCall{"key__rule_update", `{"id":0,"expect":{"descr":"another"},"set":{"disabled":true}}`, "nothing was changed"},
		pfsenseCall{"key__rule_delete", `{"id":0,"expect":{"descr":"string","type":"pass"}}`, `"done":"rule deleted`},
		pfsenseCall{"key__alias_update", `{"name":"string","add":["192.0.2.1"]}`, `"done":"alias changed"`},
		pfsenseCall{"key__alias_delete", `{"name":"string","expect":["string"]}`, `"done":"alias deleted"`},
		pfsenseCall{"key__service_control", `{"name":"string","action":"restart"}`, "says that it runs"},
		pfsenseCall{"key__apply", `{}`, `"applied":true`},
		pfsenseCall{"key__apply", `{"area":"routing"}`, `"applied":true`},
		pfsenseCall{"key__apply", `{"area":"interfaces"}`, `"applied":true`},
		pfsenseCall{"key__apply", `{"area":"dns_resolver"}`, `"applied":true`},
		pfsenseCall{"key__apply", `{"area":"dhcp_server"}`, `"applied":true`},
		pfsenseCall{"key__backup", `{}`, "history"},
		pfsenseCall{"key__restore", `{"time":0,"expect":"string"}`, "is back"},
		pfsenseCall{"key__reboot", `{"confirm":"string.string"}`, "reboots"},
	)
}

// mended writes the document without two faults of its own, for which Prism would refuse what a pfSense takes: lists "with at most 0 items"
// (0 is its word for no limit), and ids that have to be either a number or a text when every number is a text, too.
func mended(doc, dir string) (string, error) {
	raw, err := os.ReadFile(filepath.Clean(doc))
	if err != nil {
		return "", err
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return "", fmt.Errorf("%s: %w", doc, err)
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if v["maxItems"] == 0.0 {
				delete(v, "maxItems")
			}
			if either, ok := v["oneOf"].([]any); ok && v["anyOf"] == nil {
				delete(v, "oneOf")
				v["anyOf"] = either
			}
			for _, m := range v {
				walk(m)
			}
		case []any:
			for _, m := range v {
				walk(m)
			}
		}
	}
	walk(v)
	if raw, err = json.Marshal(v); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "openapi.json")
	return path, os.WriteFile(path, raw, 0o600)
}

// pfsenseDocument returns the path of the OpenAPI document.
func pfsenseDocument(ctx context.Context) (string, error) {
	if path := os.Getenv("PFSENSE_OPENAPI"); path != "" {
		return path, nil
	}
	cache, err := harness.Cache(ctx)
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "pfsense-openapi-2.7.1.json")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, pfsenseDoc, http.NoBody)
	if err != nil {
		return "", err
	}
	const mend = "PFSENSE_OPENAPI names a file instead, such as that of /api/v2/schema/openapi of a pfSense"
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("fetching the OpenAPI document (%s): %w", mend, err)
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	raw, err := io.ReadAll(io.LimitReader(res.Body, 32<<20))
	if err != nil {
		return "", fmt.Errorf("fetching the OpenAPI document (%s): %w", mend, err)
	}
	if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) != pfsenseDocSum {
		return "", fmt.Errorf("the OpenAPI document is not the expected one (HTTP %d, %d bytes): %s", res.StatusCode, len(raw), mend)
	}
	return path, os.WriteFile(path, raw, 0o600)
}
