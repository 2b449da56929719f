package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/internal/config"
)

// The bounds of a search: it is for a home network, not for an audit.
const (
	searchTime  = 20 * time.Second
	dialTime    = 500 * time.Millisecond
	answerTime  = 3 * time.Second
	searchers   = 64
	mostSubnets = 4
)

// knock is a port, and how what answers there is recognised.
type knock struct {
	port int
	url  func(host string) string
	path string
	is   func(r *http.Response, body string) string // the preset; "" if it is something else
}

func overHTTPS(host string) string { return "https://" + host }
func overHTTP(host string) string  { return "http://" + host }

var knocks = []knock{
	{443, overHTTPS, "/", func(_ *http.Response, body string) string {
		switch {
		case strings.Contains(body, "pfSense"):
			return "pfsense"
		case strings.Contains(body, "TrueNAS"):
			return "truenas"
		}
		return ""
	}},
	{443, overHTTPS, "/redfish/v1/", func(_ *http.Response, body string) string {
		if strings.Contains(body, `"Dell"`) || strings.Contains(body, "Integrated Dell Remote Access Controller") {
			return "idrac"
		}
		return ""
	}},
	{8006, overHTTPS, "/", func(r *http.Response, body string) string {
		if strings.Contains(body, "Proxmox Virtual Environment") || strings.HasPrefix(r.Header.Get("Server"), "pve-api-daemon") {
			return "proxmox"
		}
		return ""
	}},
	{9090, overHTTP, "/-/healthy", func(_ *http.Response, body string) string {
		if strings.HasPrefix(body, "Prometheus") {
			return "prometheus"
		}
		return ""
	}},
	{11434, overHTTP, "/", func(_ *http.Response, body string) string {
		if strings.Contains(body, "Ollama is running") {
			return "llm"
		}
		return ""
	}},
}

// system is something that was found on the network.
type system struct{ preset, url string }

// discover looks for systems and adds those to the draft for which there is a built-in server.
func (a *app) discover(ctx context.Context, d *draft) error {
	hosts, where := neighbours()
	a.say("Looking at %s", where)
	p := a.working("looking for systems")
	systems := search(ctx, hosts, knocks)
	p.done()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	names := map[string]int{}
	for _, s := range systems {
		if !slices.Contains(config.Presets(), s.preset) {
			a.say("found: %s at %s, for which this version has no built-in server", s.preset, s.url)
			continue
		}
		names[s.preset]++
		e := config.Entry{Name: s.preset}
		if n := names[s.preset]; n > 1 {
			e.Name = fmt.Sprintf("%s_%d", s.preset, n)
		}
		e.Set("preset", s.preset)
		e.Set("url", s.url)
		if _, err := d.add(e); err != nil {
			// It was found without its credentials, and is of no use before they are there.
			e.Set("disabled", true)
			if _, again := d.add(e); again != nil {
				a.say("found: %s at %s; not added: %s", s.preset, s.url, explain(err))
				continue
			}
		}
		a.say("found: %s at %s, added as %s: it needs its credentials (docs/configuration.md)", s.preset, s.url, e.Name)
	}
	if len(systems) == 0 {
		a.say("found: nothing that is known")
	}
	return nil
}

// neighbours lists the addresses beside those of this machine, and this machine.
func neighbours() (hosts []netip.Addr, where string) {
	hosts = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	named := []string{"this machine"}
	interfaces, _ := net.Interfaces() // without them there is this machine
	for _, i := range interfaces {
		virtual := slices.ContainsFunc([]string{"docker", "br-", "veth", "virbr", "cni", "flannel", "tun", "wg", "tailscale"}, func(p string) bool { return strings.HasPrefix(i.Name, p) })
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 || virtual {
			continue
		}
		addresses, _ := i.Addrs() // as above
		for _, a := range addresses {
			prefix, err := netip.ParsePrefix(a.String())
			if err != nil || !prefix.Addr().Is4() || !prefix.Addr().IsPrivate() || len(named) > mostSubnets {
				continue
			}
			prefix = netip.PrefixFrom(prefix.Addr(), max(prefix.Bits(), 24)).Masked()
			named = append(named, prefix.String())
			for h := prefix.Addr().Next(); prefix.Contains(h) && prefix.Contains(h.Next()); h = h.Next() {
				hosts = append(hosts, h)
			}
		}
	}
	return hosts, strings.Join(named, ", ")
}

// search knocks at every door. It takes no longer than searchTime.
func search(ctx context.Context, hosts []netip.Addr, knocks []knock) []system {
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	client := &http.Client{
		Timeout: answerTime,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       (&net.Dialer{Timeout: dialTime}).DialContext,
			// Appliances have certificates of their own making, and nothing secret is sent.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
		},
	}
	type door struct {
		host netip.Addr
		knock
	}
	doors := make(chan door)
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		found []system
	)
	for range searchers {
		wg.Go(func() {
			for d := range doors {
				base := d.url(net.JoinHostPort(d.host.String(), strconv.Itoa(d.port)))
				base = strings.TrimSuffix(base, ":443")
				if preset := knockAt(ctx, client, base+d.path, d.is); preset != "" {
					mu.Lock()
					found = append(found, system{preset, base})
					mu.Unlock()
				}
			}
		})
	}
	for _, k := range knocks {
		for _, h := range hosts {
			if ctx.Err() == nil {
				doors <- door{h, k}
			}
		}
	}
	close(doors)
	wg.Wait()
	slices.SortFunc(found, func(a, b system) int { return cmp.Or(cmp.Compare(a.preset, b.preset), cmp.Compare(a.url, b.url)) })
	return slices.Compact(found)
}

func knockAt(ctx context.Context, client *http.Client, url string, is func(*http.Response, string) string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return ""
	}
	resp, err := client.Do(req)
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // a part may be enough
	return is(resp, string(body))
}
