package pfsense

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// logLines is how many lines of a log are looked at: pfSense reads its log files from the end.
const logLines = 2000

func (f *firewall) addLogs(s *kit.Server) {
	kit.Add(s, kit.Tool{
		Name: "logs", Title: "Logs",
		Description: "Newest lines of a log. kind=firewall shows what was blocked or passed: interface, addresses, ports, and the tracker of the rule.",
		Adjust: func(s *jsonschema.Schema) {
			kit.PageLimits(s)
			kit.Enum(s, "kind", "firewall", "system", "dhcp", "openvpn", "auth")
		},
	}, func(ctx context.Context, _ *kit.Call, in kinds) (*kit.Listing, error) {
		items, err := f.list(ctx, "/status/logs/"+in.Kind, url.Values{"limit": {strconv.Itoa(logLines)}})
		if err != nil {
			return nil, err
		}
		if in.Kind != "firewall" {
			return kit.List(only(items, []string{"text"}), in.Page, "text"), nil
		}
		for i, it := range items {
			items[i] = filterEntry(fmt.Sprint(it["text"]))
		}
		return kit.List(items, in.Page, "time", "action", "interface", "direction", "protocol", "source", "source_port", "destination", "destination_port", "tracker", "text"), nil
	})
}

// filterEntry reads a line of filterlog. Its fields are named in pfSense's documentation, "Raw Filter Log Format". A line that is none is
// shown as it is.
func filterEntry(line string) kit.Item {
	head, rest, ok := strings.Cut(line, "filterlog")
	_, csv, ok2 := strings.Cut(rest, ": ")
	fields := strings.Split(csv, ",")
	if !ok || !ok2 || len(fields) < 9 {
		return kit.Item{"text": line}
	}
	it := kit.Item{"tracker": fields[3], "interface": fields[4], "action": fields[6], "direction": fields[7]}
	if words := strings.Fields(head); len(words) >= 3 {
		it["time"] = strings.Join(words[:3], " ")
		if len(words[0]) > 4 { // ISO 8601, as the newer log format has it
			it["time"] = words[0]
		}
	}
	protocol, at := 16, 18
	if fields[8] == "6" {
		protocol, at = 12, 15
	}
	if len(fields) <= at+1 {
		return it
	}
	it["protocol"], it["source"], it["destination"] = strings.ToLower(fields[protocol]), fields[at], fields[at+1]
	if len(fields) > at+3 && (it["protocol"] == "tcp" || it["protocol"] == "udp") {
		it["source_port"], it["destination_port"] = fields[at+2], fields[at+3]
	}
	return it
}
