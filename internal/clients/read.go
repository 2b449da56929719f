package clients

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/mcpgw/mcpgw/internal/config"
)

// Found is what files of clients tell.
type Found struct {
	Servers   []Server
	Variables []Variable // that the entries need, in the order in which they were met
	Notes     []string   // what concerns no server in particular
}

// Server is one server of a client.
type Server struct {
	Entry config.Entry
	From  string   // where it stands: file and section
	Notes []string // what was not taken over, and why
	Skip  string   // why there is no entry; "" if there is one
}

// reader collects what files hold.
type reader struct {
	home, project string
	dialect       dialect
	file          string
	server        string // being read
	inputs        []any
	names         map[string]string // folded, with the one that took it
	taken         map[string]string // variables and their secrets
	found         *Found
}

// Reader reads files, one after the other. Names of servers and variables are unique across all of them.
type Reader struct{ r reader }

// NewReader returns a Reader. home is the user's folder; names are those that entries must not have.
func NewReader(home string, names []string) *Reader {
	r := &Reader{reader{home: home, names: map[string]string{}, taken: map[string]string{}, found: &Found{}}}
	for _, n := range names {
		r.r.names[fold(n)] = n
	}
	return r
}

// Found returns what has been read.
func (r *Reader) Found() *Found { return r.r.found }

var errForm = errors.New(`no servers found. Known are "mcpServers" (Claude, Cursor, Gemini CLI, LM Studio), "servers" (VS Code), "mcp" (OpenCode), ` +
	`[mcp_servers.NAME] (Codex), and server.json of the MCP registry`)

// Read reads the content of a file. The path tells what cannot be seen from the content: the client where its variables are written in a way of
// its own, and the folder of the project.
func (r *Reader) Read(path string, data []byte) error {
	in := &r.r
	in.file, in.inputs, in.dialect = path, nil, braces
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	in.project = filepath.Dir(abs)
	switch filepath.Base(in.project) {
	case ".vscode", ".cursor", ".gemini", ".codex", ".opencode", ".github":
		if filepath.Base(in.project) == ".gemini" {
			in.dialect = shell
		}
		in.project = filepath.Dir(in.project)
	}
	before := len(in.found.Servers)
	v, err := parseJSON(data)
	if err != nil && (strings.HasSuffix(path, ".toml") || !strings.HasPrefix(strings.TrimSpace(string(plain(data))), "{")) {
		return in.codex(data)
	}
	if err != nil {
		return err
	}
	root, ok := v.(object)
	if !ok {
		return errForm
	}
	if err := in.roots(root); err != nil {
		return err
	}
	if len(in.found.Servers) == before && !in.empty(root) {
		return errForm
	}
	return nil
}

// roots reads every section of servers that there is.
func (r *reader) roots(root object) error {
	if inner := root.object("server"); inner != nil && (inner.get("packages") != nil || inner.get("remotes") != nil) {
		root = inner // as the registry's API answers
	}
	if root.text("name") != "" && (root.get("packages") != nil || root.get("remotes") != nil) {
		r.registry(root)
		return nil
	}
	r.inputs, _ = root.get("inputs").([]any)
	r.section("mcpServers", root.object("mcpServers"), false)
	r.section("servers", root.object("servers"), false)
	for _, p := range root.object("projects") {
		if o, ok := p.value.(object); ok {
			project := r.project
			r.project = p.key
			r.section("projects."+p.key+".mcpServers", o.object("mcpServers"), false)
			r.project = project
		}
	}
	if mcp := root.object("mcp"); mcp.object("servers") != nil { // the settings of VS Code
		r.inputs, _ = mcp.get("inputs").([]any)
		r.section("mcp.servers", mcp.object("servers"), false)
	} else if mcp != nil {
		r.dialect = openCode
		r.section("mcp", mcp, true)
	}
	for _, known := range []string{"mcpServers", "servers", "projects", "mcp"} {
		if root.get(known) != nil {
			return nil
		}
	}
	// A piece of a page of documentation, without the section around it.
	for _, m := range root {
		if o, ok := m.value.(object); !ok || o.get("command") == nil && o.get("url") == nil && o.get("httpUrl") == nil && o.get("serverUrl") == nil {
			return errForm
		}
	}
	r.section("", root, false)
	return nil
}

// empty says whether there is a section for servers, and nothing in it.
func (r *reader) empty(root object) bool {
	for _, key := range []string{"mcpServers", "servers", "mcp", "projects"} {
		if _, ok := root.get(key).(object); ok {
			r.found.Notes = append(r.found.Notes, r.file+": no servers in it")
			return true
		}
	}
	return false
}

// section reads servers by name.
func (r *reader) section(path string, servers object, opencode bool) {
	for _, m := range servers {
		from := strings.TrimPrefix(path+"."+m.key, ".")
		o, ok := m.value.(object)
		if !ok {
			r.found.Servers = append(r.found.Servers, Server{From: r.file + ": " + from, Skip: "it is not a section"})
			continue
		}
		if opencode {
			o = fromOpenCode(o)
		}
		r.one(from, m.key, o)
	}
}

// one reads a server whose keys are those of mcpServers.
func (r *reader) one(from, name string, o object) {
	s := Server{From: r.file + ": " + from}
	s.Entry.Name = r.name(name, &s)
	r.server = s.Entry.Name
	if err := r.fill(&s, o); err != nil {
		s.Skip = err.Error()
	}
	if s.Skip != "" {
		delete(r.names, fold(s.Entry.Name))
	}
	r.found.Servers = append(r.found.Servers, s)
}

// fold is how clients compare names: see decision D10.
func fold(name string) string {
	return strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToLower(name))
}

// name makes a name for gateway.yaml of that in the client.
func (r *reader) name(name string, s *Server) string {
	pattern, _ := config.NameRule()
	const most = 30
	n := strings.Map(func(c rune) rune {
		if c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			return c
		}
		return '_'
	}, name)
	for strings.Contains(n, "__") {
		n = strings.ReplaceAll(n, "__", "_")
	}
	n = strings.Trim(n, "_")
	if len(n) > most {
		n = strings.TrimRight(n[:most], "_-")
	}
	if !pattern.MatchString(n) {
		n = "server"
	}
	if n != name {
		s.Notes = append(s.Notes, fmt.Sprintf("it is called %s here, because %q is no name for gateway.yaml", n, name))
	}
	if other, ok := r.names[fold(n)]; ok {
		base := n
		for i := 2; ok; i++ {
			suffix := fmt.Sprintf("_%d", i)
			n = strings.TrimRight(base[:min(len(base), most-len(suffix))], "_-") + suffix
			_, ok = r.names[fold(n)]
		}
		s.Notes = append(s.Notes, fmt.Sprintf("it is called %s here, because there is a %s already", n, other))
	}
	r.names[fold(n)] = n
	return n
}

// codex reads the TOML of Codex.
func (r *reader) codex(data []byte) error {
	var root map[string]any
	md, err := toml.Decode(string(data), &root)
	if err != nil {
		if e, ok := errors.AsType[toml.ParseError](err); ok {
			return fmt.Errorf("line %d: not valid TOML: %s", e.Position.Line, e.Message)
		}
		return fmt.Errorf("not valid TOML: %w", err)
	}
	servers, ok := root["mcp_servers"].(map[string]any)
	if !ok {
		return errForm
	}
	r.dialect = none
	var order []string
	for _, k := range md.Keys() {
		if len(k) >= 2 && k[0] == "mcp_servers" && !slices.Contains(order, k[1]) {
			order = append(order, k[1])
		}
	}
	for _, name := range order {
		o, ok := ordered(servers[name]).(object)
		if !ok {
			continue
		}
		r.one("mcp_servers."+name, name, o)
	}
	if len(order) == 0 {
		r.found.Notes = append(r.found.Notes, r.file+": no servers in it")
	}
	return nil
}

// ordered gives maps an order.
func ordered(v any) any {
	switch v := v.(type) {
	case map[string]any:
		o := object{}
		for k, e := range v {
			o = append(o, member{k, ordered(e)})
		}
		slices.SortFunc(o, func(a, b member) int { return cmp.Compare(a.key, b.key) })
		return o
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = ordered(e)
		}
		return list
	}
	return v
}
