package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const host = "downstreams: {host: {preset: host}}\n"

// TestFaults holds the exact text of what people read when their file is wrong.
// presets are the names that messages list.
var presets = strings.Join(Presets(), ", ")

func TestFaults(t *testing.T) {
	example := "; the smallest valid file is\n\n    downstreams:\n      host:\n        preset: host"
	tests := []struct {
		name, text string
		want       []string // without "f:"
	}{
		{"empty", "", []string{`1:1: the file is empty` + example}},
		{"only comments", "# nothing\n", []string{`1:1: the file is empty` + example}},
		{"only a separator", "---\n", []string{`1:1: the file is empty` + example}},
		{"null", "~\n", []string{`1:1: the file is empty` + example}},
		{"no downstreams", "gateway: {}\n", []string{`1:1: downstreams: missing` + example}},
		{"not a section", "hello\n", []string{`1:1: expected a section with keys such as gateway, downstreams, resilience, found text`}},
		{"a list", "- a\n", []string{`1:1: expected a section with keys such as gateway, downstreams, resilience, found a list`}},
		{"two documents", host + "---\n" + host, []string{`2:1: expected one document, found a second one after "---"`}},
		{"too large", "# " + strings.Repeat("x", maxBytes), []string{`1:1: expected at most 1048576 bytes, found 1048578: is this the right file?`}},
		{"not UTF-8", host + "# M\xfcller\n", []string{`2:4: expected text in UTF-8, found the byte 0xfc: save the file as UTF-8`}},

		{"tab", "downstreams:\n  a:\n\tpreset: host\n", []string{`3:2: not valid YAML: a tab in the indentation: YAML indents with spaces`}},
		{"tab after spaces", "downstreams:\n  a:\n  \tpreset: host\n", []string{`3:4: not valid YAML: a tab in the indentation: YAML indents with spaces`}},
		{"indentation", "downstreams:\n  a:\n    preset: host\n   b: 1\n", []string{`4:4: not valid YAML: expected a key: the indentation does not match the lines above, or a text needs quotes`}},
		{"too deep", "gateway:\n  listen: x\n    page_size: 1\n", []string{`3:5: not valid YAML: a ":" where no key can be: the indentation does not match the line above, a space is missing after the ":" above, or a text with ": " in it needs quotes`}},
		{"open quote", "downstreams:\n  a:\n    command: \"x\n    dir: y\n", []string{`3:5: not valid YAML: a quote is not closed`}},
		{"open bracket", "downstreams:\n  a:\n    args: [a, b\n    command: y\n", []string{`3:5: not valid YAML: a { or [ is not closed, or a text inside it needs quotes`}},
		{"reference in a flow", "downstreams:\n  a: { url: ${URL} }\n", []string{`2:3: not valid YAML: inside { } and [ ] a text with ${...} needs quotes: "${NAME}"`}},
		{"at sign", "downstreams:\n  a:\n    args:\n    - @scope/x\n", []string{"4:5: not valid YAML: a value must not start with @, ` or %, nor hold a tab before it: put it in quotes"}},
		{"list item", "gateway:\n  tokens:\n    - a\n    b: 1\n", []string{`4:5: not valid YAML: expected a list item ("- ") as in the lines above`}},
		{"control character", "downstreams: {}\n# \x01\n", []string{`2:1: not valid YAML: a control character: only text is allowed`}},
		{"alias of nothing", "downstreams:\n  a:\n    headers: {A: *hunter2}\n  b: {}\n", []string{`3:5: not valid YAML: a text that starts with "*" refers to an anchor (&NAME), and there is none of this name above: put the text in quotes`}},

		{"unknown keys", "gateway:\n  listn: 127.0.0.1:80\n  Page-Size: 5\n  zzz: 1\nmcpServers:\n  a: {comand: npx, args: [x], log_level: info}\n", []string{
			`2:3: gateway.listn: unknown key (did you mean "listen"?)`,
			`3:3: gateway.Page-Size: unknown key (did you mean "page_size"?)`,
			`4:3: gateway.zzz: unknown key (known here: listen, tokens, allowed_hosts, allowed_origins, admin, admin_tools, sealing_keys, passthrough_extensions, page_size, instructions, limits, timeouts)`,
			`5:1: mcpServers: unknown key (did you mean "downstreams"?)`,
			`6:7: downstreams.a.comand: unknown key (did you mean "command"?)`,
			`6:31: downstreams.a.log_level: unknown key (it belongs into the section "telemetry")`,
		}},
		{"policies", "resilience:\n  rollout: {percent: 120}\n  defaults: {retry: {max_attempts: 0}, timeouts: {overall: 10s}}\n  profiles: {slow: {timeouts: {attempt: 2m}}}\n" +
			"downstreams:\n  a: {preset: host, resilience: {profile: slwo, circuit_breaker: {failure_threshold: -1, failure_rate_threshold: 1.5}}}\n" +
			"  b: {preset: host, resilience: {timeouts: {attempt: 20s}, tools: {x: {bulkhead: {}, retry: {budget: {ratio: 1}, jitter: 2}}, \"get_*\": {timeouts: {attempt: 0s}}}}}\n", []string{
			`2:13: resilience.rollout.percent: must be from 0 to 100, found "120"`,
			`3:22: resilience.defaults.retry.max_attempts: must be at least 1, found "0"`,
			`3:40: resilience.defaults.timeouts.attempt: must not be longer than timeouts.overall (10s), found 30s`,
			`4:32: resilience.profiles.slow.timeouts.attempt: must not be longer than timeouts.overall (10s), found "2m"`,
			`6:34: downstreams.a.resilience.profile: there is no profile of this name (known: standard, high_latency, critical, development, slow)`,
			`6:67: downstreams.a.resilience.circuit_breaker.failure_threshold: must be at least 0, found "-1"`,
			`6:90: downstreams.a.resilience.circuit_breaker.failure_rate_threshold: must be from 0 to 1, found "1.5"`,
			`7:45: downstreams.b.resilience.timeouts.attempt: must not be longer than timeouts.overall (10s), found "20s"`,
			`7:72: downstreams.b.resilience.tools.x.bulkhead: belongs to the whole server, not to one tool`,
			`7:94: downstreams.b.resilience.tools.x.retry.budget: belongs to the whole server, not to one tool: write it at downstreams.b.resilience.retry.budget`,
			`7:114: downstreams.b.resilience.tools.x.retry.jitter: must be from 0 to 1, found "2"`,
			`7:148: downstreams.b.resilience.tools.get_*.timeouts.attempt: must be more than 0, found "0s"`,
		}},
		{"another name, twice", "downstreams:\n  a: {preset: host, resilience: {retry_max_attempts: 2, retry: {max_attempts: 2}, timeout_ms: x}}\n", []string{
			`2:34: downstreams.a.resilience.retry_max_attempts: another name for downstreams.a.resilience.retry.max_attempts, which is here too`,
			`2:83: downstreams.a.resilience.timeouts.attempt: expected a duration such as 500ms, 30s or 1h30m, found "x"`,
		}},
		{"a word and its correction", "telemetry: {loglevel: info, log_level: debug}\n" + host, []string{`1:13: telemetry.loglevel: unknown key (did you mean "log_level"?)`}},
		{"duplicate keys", "downstreams:\n  a: {preset: host}\n  a: {preset: host}\n" + host, []string{
			`3:3: downstreams.a: the key is here twice (first on line 2)`,
			`4:1: downstreams: the key is here twice (first on line 1)`,
		}},
		{"keys that are no names", "downstreams:\n  ~: {preset: host}\n  [a]: {preset: host}\n  !x b: {preset: host}\n", []string{
			`2:3: downstreams: expected a name as key, found nothing`,
			`3:3: downstreams: expected a name as key, found a list`,
			`4:3: downstreams: expected a name as key, found text`,
		}},
		{"names", "downstreams:\n  a b: {preset: hots}\n  \"\": {preset: host}\n  \"x\\n\\e[31m\": {preset: host}\n", []string{
			`2:3: downstreams.a b: expected a name of 1 to 30 letters, digits, '-' and '_'`,
			`2:9: downstreams.a b.preset: expected one of ` + presets + `, found "hots" (did you mean "host"?)`,
			`3:3: downstreams.: expected a name of 1 to 30 letters, digits, '-' and '_'`,
			`4:3: "downstreams.x\n\x1b[31m": expected a name of 1 to 30 letters, digits, '-' and '_'`,
		}},

		{"empty sections", "gateway:\ndownstreams:\n  a:\n  b: {args: , command: }\n", []string{
			`1:1: gateway: expected a section with keys such as listen, tokens, allowed_hosts, found nothing ({} is an empty one)`,
			`3:3: downstreams.a: expected a section with keys such as command, args, env, found nothing ({} is an empty one)`,
			`4:7: downstreams.b.args: expected a list such as [a, b], found nothing ([] is an empty one)`,
			`4:15: downstreams.b.command: expected text, found nothing ("" is an empty text)`,
		}},
		{"wrong kinds", "gateway: 5\ndownstreams:\n  a: npx\n  b: {command: [npx], args: -y, env: [A=B], disabled: {}}\n  c: {url: {}, headers: \"Bearer hunter2\"}\n", []string{
			`1:1: gateway: expected a section with keys such as listen, tokens, allowed_hosts, found a number`,
			`3:3: downstreams.a: expected a section with keys such as command, args, env, found text`,
			`4:7: downstreams.b.command: expected text, found a list`,
			`4:23: downstreams.b.args: expected a list such as [a, b], found text`,
			`4:33: downstreams.b.env: expected a section with names and their values, found a list`,
			`4:45: downstreams.b.disabled: expected true or false, found a section`,
			`5:7: downstreams.c.url: expected text, found a section`,
			`5:16: downstreams.c.headers: expected a section with names and their values, found text`,
		}},
		{"tags", "gateway: !x {}\ndownstreams:\n  a: {command: !hunter2 x}\n", []string{
			`1:1: gateway: expected a value without a tag: a text that starts with "!" needs quotes`,
			`3:7: downstreams.a.command: expected a value without a tag: a text that starts with "!" needs quotes`,
		}},
		{"wrong values", "gateway:\n  page_size: 1e3\n  limits: {depth: \"5\", sessions: 010, streams: 1_000, in_flight: 99999999999999999999, request_bytes: 4MB}\n  timeouts: {header: 10, body: 1d, write: soon, idle: -5s}\n" +
			"downstreams:\n  a: {preset: host, disabled: yes, limits: {stderr_bytes: lots, item_bytes: \"5\", message_bytes: 99999999999GiB}, transport: streamabel}\n", []string{
			`2:3: gateway.page_size: expected a whole number, found 1e3`,
			`3:12: gateway.limits.depth: expected a whole number, found "5" (remove the quotes)`,
			`3:24: gateway.limits.sessions: expected a whole number, found 010`,
			`3:39: gateway.limits.streams: expected a whole number, found 1_000`,
			`3:55: gateway.limits.in_flight: expected a whole number, found 99999999999999999999 (it is too large)`,
			`3:88: gateway.limits.request_bytes: expected a size such as 16MiB, 512KiB or a number of bytes, found "4MB" (write the unit as MiB, without a space)`,
			`4:14: gateway.timeouts.header: expected a duration such as 500ms, 30s or 1h30m, found 10 (a unit is missing: ms, s, m or h)`,
			`4:26: gateway.timeouts.body: expected a duration such as 500ms, 30s or 1h30m, found "1d" (the largest unit is h)`,
			`4:36: gateway.timeouts.write: expected a duration such as 500ms, 30s or 1h30m, found "soon"`,
			`4:49: gateway.timeouts.idle: must be more than 0, found "-5s"`,
			`6:21: downstreams.a.disabled: expected true or false, found "yes" (write true)`,
			`6:45: downstreams.a.limits.stderr_bytes: expected a size such as 16MiB, 512KiB or a number of bytes, found "lots"`,
			`6:65: downstreams.a.limits.item_bytes: expected a size such as 16MiB, 512KiB or a number of bytes, found "5" (remove the quotes)`,
			`6:82: downstreams.a.limits.message_bytes: expected a size such as 16MiB, 512KiB or a number of bytes, found "99999999999GiB" (it is too large)`,
			`6:114: downstreams.a.transport: expected one of auto, streamable, sse, found "streamabel" (did you mean "streamable"?)`,
		}},
		{"what Validate finds", "gateway:\n  listen: 8080\n  allowed_origins: [https://a, https://b/]\n  timeouts:\n    idle: 0s\ndownstreams:\n  a: {}\n  b: {preset: host, args: [x]}\n  c: {command: x, timeouts: {call: 1h}}\n  d: {url: \"https://u:p@h\"}\ntelemetry: {log_level: inf}\n", []string{
			`2:3: gateway.listen: expected HOST:PORT such as 127.0.0.1:8080, found "8080"`,
			`3:32: gateway.allowed_origins[1]: expected scheme://host[:port], found "https://b/"`,
			`5:5: gateway.timeouts.idle: must be more than 0, found "0s"`,
			`7:3: downstreams.a: expected one of command, url, urls or preset`,
			`8:21: downstreams.b.args: only a server with a command has it`,
			`9:30: downstreams.c.timeouts.call: must not be longer than timeouts.max_call (30m0s), found "1h"`,
			`10:7: downstreams.d.url: must not hold a user name or password: send it in headers.Authorization`,
			`11:13: telemetry.log_level: expected one of debug, info, warn, error, found "inf" (did you mean "info"?)`,
		}},
		{"a default in conflict is told at the section", "downstreams:\n  c: {command: x, timeouts: {max_call: 1m}}\n", []string{
			`2:19: downstreams.c.timeouts.call: must not be longer than timeouts.max_call (1m0s), found 5m0s`,
		}},

		{"references", "gateway:\n  page_size: ${WORD}\n  listen: \"${OPEN\"\n  allowed_hosts: [\"${1X}\", \"${X:?no}\", \"${}\", $HOME, \"${A:-${B}}\", \"${UNSET1}${UNSET2}\"]\ndownstreams:\n  a: {command: \"${UNSET1}\", args: [x]}\n", []string{
			`2:3: gateway.page_size: expected a whole number, found "${WORD}", which stands for something else`,
			`3:3: gateway.listen: "${" without "}": write ${NAME} or ${NAME:-default} for the value of an environment variable, $$ for a dollar sign, found "${OPEN"`,
			`4:19: gateway.allowed_hosts[0]: expected ${NAME} or ${NAME:-default}, where NAME has letters, digits and "_", found "${1X}"`,
			`4:28: gateway.allowed_hosts[1]: expected ${NAME} or ${NAME:-default}, where NAME has letters, digits and "_", found "${X:?no}"`,
			`4:40: gateway.allowed_hosts[2]: expected ${NAME} or ${NAME:-default}, where NAME has letters, digits and "_", found "${}"`,
			`4:47: gateway.allowed_hosts[3]: a "$" before a name: write ${NAME} for the value of an environment variable, $$ for a dollar sign, found "$HOME"`,
			`4:54: gateway.allowed_hosts[4]: the default in ${NAME:-default} must not hold another "${", found "${A:-${B}}"`,
			`4:68: gateway.allowed_hosts[5]: the environment variable UNSET1 is not set (set it, or write ${UNSET1:-default})`,
			`4:68: gateway.allowed_hosts[5]: the environment variable UNSET2 is not set (set it, or write ${UNSET2:-default})`,
			`6:7: downstreams.a.command: the environment variable UNSET1 is not set (set it, or write ${UNSET1:-default})`,
		}},
		{"a value brings no structure", "gateway:\n  listen: ${INJECT}\n" + host, []string{
			`2:3: gateway.listen: expected HOST:PORT such as 127.0.0.1:8080, found "${INJECT}"`,
		}},
		{"no references in keys", "downstreams:\n  ${WORD}: {preset: host}\n", []string{
			`2:3: downstreams.${WORD}: expected a name of 1 to 30 letters, digits, '-' and '_'`,
		}},

		{"an alias inside itself", "downstreams:\n  a: &a\n    args: [*a]\n    <<: *a\n", []string{
			`3:12: downstreams.a.args[0]: expected text, found a section`,
			`4:5: downstreams.a: an alias (*NAME) that stands inside what it refers to`,
		}},
		{"a list inside itself", "downstreams:\n  a: {command: x, args: &a [*a]}\n", []string{
			`2:29: downstreams.a.args[0]: expected text, found a list`,
		}},
		{"merge of a text", "downstreams:\n  a: {<<: x, preset: host}\n", []string{
			`2:7: downstreams.a: expected a section, or an alias (*NAME) of one, after "<<", found text`,
		}},
	}
	variables := env("WORD", "abc", "INJECT", "x\ndownstreams: {evil: {command: rm}}", "HOME", "/root")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("f", []byte(tt.text), variables)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an *Error", err)
			}
			var got []string
			for _, f := range e.Faults {
				got = append(got, strings.TrimPrefix(f.String(), "f:"))
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestErrorHasOneLineForEachFault(t *testing.T) {
	_, err := Parse("/etc/gateway.yaml", []byte("gateway: {a: 1}\ndownstreams: {x: {preset: y}}\n"), env())
	want := "/etc/gateway.yaml:1:11: gateway.a: unknown key (known here: listen, tokens, allowed_hosts, allowed_origins, admin, admin_tools, sealing_keys, passthrough_extensions, page_size, instructions, limits, timeouts)\n" +
		"/etc/gateway.yaml:2:19: downstreams.x.preset: expected one of " + presets + ", found \"y\""
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestManyFaults(t *testing.T) {
	var text strings.Builder
	text.WriteString(host)
	for i := range 500 {
		fmt.Fprintf(&text, "qqqqqqqq%d: 1\n", i)
	}
	_, err := Parse("f", []byte(text.String()), env())
	if err == nil || !strings.HasSuffix(err.Error(), "\nf: and 400 more") || strings.Count(err.Error(), "\n") != maxFaults {
		t.Errorf("got %v", err)
	}
}

// TestLaughs bounds what a small file can ask for.
func TestLaughs(t *testing.T) {
	nest := func(open, item, last string) string {
		var b strings.Builder
		b.WriteString("downstreams:\n  a: &a0 " + last + "\n")
		for i := range 12 {
			alias := fmt.Sprintf(item, i)
			fmt.Fprintf(&b, "  b%d: &a%d "+open+"\n", i, i+1, strings.Join(slices.Repeat([]string{alias}, 9), ", "))
		}
		return b.String()
	}
	for name, text := range map[string]string{
		"lists":  nest("[%s]", "*a%d", "[x]"),
		"merges": nest("{<<: [%s]}", "*a%d", "{preset: host}"),
	} {
		_, err := Parse("f", []byte(text), env())
		if err == nil {
			t.Errorf("%s: expected an error", name)
		} else if name == "merges" && !strings.Contains(err.Error(), "more than 200000 values once its aliases are followed") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestSecretsStayHidden looks for values of the environment, and for what is written under secret keys, in every error.
func TestSecretsStayHidden(t *testing.T) {
	const value = "hunter2-4f1c9a77e0"
	tests := []string{
		"gateway: {listen: \"${S}\", page_size: \"${S}\", allowed_origins: [\"${S}/\"], allowed_hosts: [\"/${S}\"], timeouts: {idle: \"${S}\"}, limits: {depth: \"${S}\", request_bytes: \"${S}\"}}\n" + host,
		"gateway: {tokens: [\"hunter2-4f1\", \"${hunter2-4f1c9a77e0}\", \"$hunter2-4f1c9a77e0\", {hunter2-4f1c9a77e0: 1}]}\n" + host,
		"gateway: {tokens: hunter2-4f1c9a77e0}\n" + host,
		"downstreams: {a: {url: \"${S}://x\"}, b: {url: \"https://x/#${S}\"}, c: {url: \"https://${S}:${S}@x\"}, d: {url: \"https://x/ ${S} %zz\"}}\n",
		"downstreams: {a: {preset: \"${S}\", session: \"x${S}\", disabled: \"${S}\", protocol: \"${S}\"}}\n",
		"downstreams: {a: {preset: host, headers: hunter2-4f1c9a77e0}, b: {command: x, env: {A: [hunter2-4f1c9a77e0], B: \"$hunter2-4f1c9a77e0\"}}}\n",
		"downstreams: {a: {url: \"http://x\", headers: {A: *hunter2-4f1c9a77e0}}}\n",
		"downstreams: {a: {url: \"http://x\", headers: {A: !hunter2-4f1c9a77e0 x, B: &hunter2-4f1c9a77e0 }}}\n",
		"telemetry: {log_level: \"${S}\", log_format: \"${S}\"}\n" + host,
	}
	for _, text := range tests {
		_, err := Parse("f", []byte(text), env("S", value))
		if err == nil {
			t.Errorf("%s: expected an error", text)
			continue
		}
		if strings.Contains(err.Error(), value[:7]) {
			t.Errorf("the error shows the secret:\n%v", err)
		}
	}
}
