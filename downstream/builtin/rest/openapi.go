package rest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// OpenAPI is the section "openapi" of a downstream.
type OpenAPI struct {
	Document string              `yaml:"document" doc:"The OpenAPI 3 document: a file, or an http(s) address, which is read when the server is connected."`
	Include  []string            `yaml:"include" doc:"Operations that become tools: operationId patterns (get*), tag:NAME, or a path with or without method (GET /users/*). The star stands for anything."`
	Exclude  []string            `yaml:"exclude" doc:"Operations that do not, in the same form."`
	MaxTools int                 `yaml:"max_tools" default:"64" doc:"Most tools. What is beyond is left out, and the log says so."`
	Auth     Auth                `yaml:"auth" doc:"How token is sent."`
	Tools    map[string]Override `yaml:"tools" doc:"What is different for single tools, by operationId or by the name of the tool."`
}

// Override is what the owner knows better than the document.
type Override struct {
	Name        string `yaml:"name" doc:"Name of the tool."`
	Description string `yaml:"description" doc:"What it tells or does."`
	Select      string `yaml:"select" doc:"Part of the JSON answer to return, as a gjson path."`
	Effect      `yaml:",inline"`
}

// DefaultOpenAPI returns an OpenAPI with every default filled in.
func DefaultOpenAPI() OpenAPI { return OpenAPI{MaxTools: 64, Auth: DefaultAuth()} }

// maxTools bounds max_tools: clients stop well before (Copilot at 128).
const maxTools = 500

// Validate reports every fault of o, joined, each a *[kit.KeyError].
func (o *OpenAPI) Validate() error {
	var f kit.Faults
	o.Auth.validate(&f)
	if o.Document == "" {
		f.Add("document", "missing: expected a file or an address")
	} else if o.remote() {
		if u, err := url.Parse(o.Document); err != nil || u.Host == "" || u.User != nil {
			f.Add("document", "expected an address such as https://192.0.2.10/openapi.json, without user and password")
		}
	}
	if len(o.Include) == 0 {
		f.Add("include", `missing: expected which operations become tools, such as [getUser, "tag:users", "GET /users/*"]. Whole documents are too much for a model`)
	}
	for key, list := range map[string][]string{"include": o.Include, "exclude": o.Exclude} {
		for i, s := range list {
			if strings.TrimSpace(s) == "" || strings.HasPrefix(s, "tag:") && len(s) == 4 {
				f.Add(fmt.Sprintf("%s[%d]", key, i), "expected an operationId, tag:NAME or a path")
			}
		}
	}
	if o.MaxTools < 1 || o.MaxTools > maxTools {
		f.Add("max_tools", "must be from 1 to %d, found %d", maxTools, o.MaxTools)
	}
	for id, t := range o.Tools {
		if t.Name != "" && !toolName.MatchString(t.Name) {
			f.Add("tools."+id+".name", "expected 1 to 64 letters, digits, '-' and '_', found %q", t.Name)
		}
		if t.Access != "" {
			if _, err := kit.ParseAccess(t.Access); err != nil {
				f.Add("tools."+id+".access", "%v", err)
			}
		}
	}
	return f.Err()
}

func (o *OpenAPI) remote() bool {
	return strings.HasPrefix(o.Document, "http://") || strings.HasPrefix(o.Document, "https://")
}

// generator makes the tools of a document once it can be read.
type generator struct {
	cfg  kit.Config
	opts *OpenAPI
	api  *api
	kit  *kit.Server

	mu     sync.Mutex
	done   bool      // guarded by mu
	failed error     // of the last attempt; guarded by mu
	at     time.Time // of the last attempt; guarded by mu
}

// NewOpenAPI returns the server of the preset "openapi". cfg.Options is an *OpenAPI. A document in a file is read now; one at an address when
// a client connects, so that a system that is down delays nobody and is tried again.
func NewOpenAPI(cfg kit.Config) (*kit.Server, error) {
	o, ok := cfg.Options.(*OpenAPI)
	if !ok || o == nil {
		return nil, errors.New("openapi: missing: expected a section with document and include")
	}
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	a, err := newAPI(&cfg, o.Auth)
	if err != nil {
		return nil, err
	}
	k := kit.NewServer(cfg, "openapi", cfg.Name, "Tools made from the OpenAPI document of an HTTP API.")
	k.OnClose(a.client.Close)
	g := &generator{cfg: cfg, opts: o, api: a, kit: k}
	if !o.remote() {
		raw, err := os.ReadFile(o.Document)
		if err != nil {
			return nil, fmt.Errorf("openapi.document: %w", err)
		}
		return k, g.make(raw)
	}
	k.OnOpen(g.open)
	return k, nil
}

// patience is how long the document is not asked for again after it could not be read: clients open a session by several requests.
const patience = time.Second

// open reads the document at an address, unless that is done.
func (g *generator) open(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.done || time.Since(g.at) < patience {
		return g.failed
	}
	g.failed = g.load(ctx)
	g.done, g.at = g.failed == nil, time.Now()
	return g.failed
}

func (g *generator) load(ctx context.Context) error {
	u, err := url.Parse(g.opts.Document)
	if err != nil {
		return errors.New("openapi.document: not an address")
	}
	from, base := g.api, g.api.client.Base()
	path, query := u.EscapedPath(), u.Query()
	if u.Scheme != base.Scheme || u.Host != base.Host {
		// Another system: it gets neither the credentials nor the headers of this one.
		other := g.cfg
		other.URL, other.Token, other.Username, other.Headers, other.TLS = u.Scheme+"://"+u.Host, "", "", nil, kit.TLS{}
		if from, err = newAPI(&other, Auth{}); err != nil {
			return err
		}
		defer func() { _ = from.client.Close(ctx) }()
	} else if rest, ok := strings.CutPrefix(path, base.EscapedPath()); ok {
		path = rest
	} else {
		root := g.cfg
		root.URL = u.Scheme + "://" + u.Host
		if from, err = newAPI(&root, g.opts.Auth); err != nil {
			return err
		}
		defer func() { _ = from.client.Close(ctx) }()
	}
	var raw []byte
	if err := from.client.Get(ctx, path, query, &raw); err != nil {
		return fmt.Errorf("openapi.document: %w", err)
	}
	return g.make(raw)
}

// make adds the tools of a document.
func (g *generator) make(raw []byte) error {
	loader := openapi3.NewLoader() // it follows no references to other files or addresses
	doc, err := loader.LoadFromData(raw)
	if err != nil {
		return fmt.Errorf("openapi.document: %s cannot be read as OpenAPI 3: %w", g.opts.Document, err)
	}
	if doc.Paths == nil || !strings.HasPrefix(doc.OpenAPI, "3.") {
		return fmt.Errorf("openapi.document: %s is no OpenAPI 3 document with paths (convert Swagger 2.0 first)", g.opts.Document)
	}
	// Many write only the host: the rest of the address is in the document.
	if g.api.client.Base().Path == "" && len(doc.Servers) > 0 && doc.Servers[0] != nil && len(doc.Servers[0].Variables) == 0 {
		if u, err := url.Parse(doc.Servers[0].URL); err == nil && !dots(u.Path) {
			g.api.prefix = strings.TrimRight(u.EscapedPath(), "/")
		}
	}
	list, left := choose(doc, g.opts, g.cfg.Access)
	for _, o := range list {
		if err := g.api.add(g.kit, o); err != nil {
			left = append(left, leftOut{o.tool.Name, err.Error()})
		}
	}
	g.report(len(list), left)
	if len(list) == 0 {
		return fmt.Errorf("openapi.include: no operation of %s matches %s with access: %s", g.opts.Document, strings.Join(g.opts.Include, ", "), g.cfg.Access)
	}
	return nil
}

// leftOut is an operation that became no tool although include names it.
type leftOut struct{ name, why string }

func (g *generator) report(tools int, left []leftOut) {
	if g.cfg.Log == nil {
		return
	}
	g.cfg.Log.Info("tools made of an OpenAPI document", "downstream", g.cfg.Name, "tools", tools, "left_out", len(left))
	if len(left) == 0 {
		return
	}
	texts := make([]string, 0, len(left))
	for _, l := range left[:min(len(left), 30)] {
		texts = append(texts, l.name+" ("+l.why+")")
	}
	if more := len(left) - len(texts); more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	g.cfg.Log.Warn("operations that include names were left out", "downstream", g.cfg.Name, "operations", strings.Join(texts, "; "), "mend", "narrow openapi.include, or raise openapi.max_tools")
}

// choose returns the operations that become tools, in a stable order, and those that do not although they were asked for.
func choose(doc *openapi3.T, opts *OpenAPI, access kit.Access) (list []*operation, left []leftOut) {
	paths := doc.Paths.Map()
	names := map[string]bool{}
	for _, path := range slices.Sorted(mapKeys(paths)) {
		item := paths[path]
		if item == nil {
			continue
		}
		operations := item.Operations()
		for _, method := range slices.Sorted(mapKeys(operations)) {
			op := operations[method]
			if !matchesAny(opts.Include, method, path, op) || matchesAny(opts.Exclude, method, path, op) {
				continue
			}
			o, err := generate(method, path, item, op, opts)
			switch {
			case err != nil:
				left = append(left, leftOut{nameOf(method, path, op), err.Error()})
				continue
			case o.tool.Access > access: // as with all tools beyond it
				continue
			case len(list) >= opts.MaxTools:
				left = append(left, leftOut{o.tool.Name, fmt.Sprintf("max_tools is %d", opts.MaxTools)})
				continue
			}
			for base, i := o.tool.Name, 2; names[strings.ToLower(o.tool.Name)]; i++ {
				o.tool.Name = fmt.Sprintf("%s_%d", base, i)
			}
			names[strings.ToLower(o.tool.Name)] = true
			list = append(list, o)
		}
	}
	return list, left
}

func matchesAny(patterns []string, method, path string, op *openapi3.Operation) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if tag, ok := strings.CutPrefix(p, "tag:"); ok {
			return slices.ContainsFunc(op.Tags, func(t string) bool { return glob(tag, t) })
		}
		if verb, rest, ok := strings.Cut(p, " "); ok {
			return (verb == "*" || strings.EqualFold(verb, method)) && glob(strings.TrimSpace(rest), path)
		}
		if strings.HasPrefix(p, "/") {
			return glob(p, path)
		}
		if slices.Contains(methods, p) {
			return p == method
		}
		return op.OperationID != "" && glob(p, op.OperationID)
	})
}

// glob reports whether s is pattern with each star replaced by some text.
func glob(pattern, s string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, first)
	if !ok {
		return false
	}
	parts := strings.Split(rest, "*")
	for _, p := range parts[:len(parts)-1] {
		_, after, found := strings.Cut(s, p)
		if !found {
			return false
		}
		s = after
	}
	return strings.HasSuffix(s, parts[len(parts)-1])
}

var notName = regexp.MustCompile(`[^A-Za-z0-9-]+`)

// nameOf makes a name that every client takes.
func nameOf(method, path string, op *openapi3.Operation) string {
	name := op.OperationID
	if name == "" {
		name = strings.ToLower(method) + "_" + path
	}
	name = strings.Trim(notName.ReplaceAllString(name, "_"), "_-")
	const most = 50
	if len(name) > most {
		name = strings.TrimRight(name[:most], "_-")
	}
	if name == "" {
		name = strings.ToLower(method)
	}
	return name
}
