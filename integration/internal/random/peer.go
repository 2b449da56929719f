package random

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"time"
)

// peerEnv makes a program that calls ServePeer a server over stdio: it names the address where the real one listens.
const peerEnv = "MCPGW_RANDOM_PEER"

// ServePeer turns the process into a server over stdio if its environment says so, and then does not return: its input goes to the server
// in the process that made the messages, and what that says to its output.
func ServePeer() {
	addr := os.Getenv(peerEnv)
	if addr == "" {
		return
	}
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "random peer:", err)
		os.Exit(1)
	}
	go func() {
		_, _ = io.Copy(conn, os.Stdin) // the gateway ends its server by closing this
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(os.Stdout, conn)
	os.Exit(0)
}

// kinds of lists.
const (
	tools = iota
	prompts
	resources
	templates
)

var (
	listMethods = [4]string{"tools/list", "prompts/list", "resources/list", "resources/templates/list"}
	listMembers = [4]string{"tools", "prompts", "resources", "resourceTemplates"}
)

// reply is what the peer does when it gets the request that is being compared.
type reply struct {
	notes    [][2]string // method and params of what it says before
	asks     []question  // what it asks before, if it is an older server
	result   string
	failure  string // an error instead
	stream   bool   // as an event stream, though nothing comes before the answer
	reversed bool   // the result stands before the id
}

// peer is a server that says what it is told to. It serves over HTTP and, through ServePeer, over stdio.
type peer struct {
	name         string
	modern       bool
	items        [4][]string // of its lists
	keys         [4][]string // their names and URIs
	capabilities string
	instructions string
	info         string
	http         *httptest.Server
	pipe         net.Listener

	mu      sync.Mutex // guards what follows
	next    reply
	seen    []string // params of the requests that are being compared
	answers []string // results of what it asked
	waiting map[string]chan string
	serial  int
}

func (p *peer) start() error {
	p.waiting = map[string]chan string{}
	p.http = httptest.NewServer(p)
	var err error
	p.pipe, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening for the server over stdio: %w", err)
	}
	go func() { // ends when stop closes the listener
		for {
			conn, err := p.pipe.Accept()
			if err != nil {
				return
			}
			go p.lines(conn)
		}
	}()
	return nil
}

func (p *peer) stop() {
	p.http.Close()
	_ = p.pipe.Close()
}

// tell says what to do with the next request, and forgets what was seen.
func (p *peer) tell(r reply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next, p.seen, p.answers = r, nil, nil
}

// saw returns the params of the requests since tell, and the answers to what the peer asked.
func (p *peer) saw() (params, answers []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen, p.answers
}

type envelope struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// take deals with one message.
func (p *peer) take(body []byte, say func(msg string, last bool)) {
	var m envelope
	if err := json.Unmarshal(body, &m); err != nil {
		say(`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":`+quoted(err.Error())+`}}`, true)
		return
	}
	if m.Method == "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		answer := string(m.Result)
		if m.Error != nil {
			answer = "error " + string(m.Error)
		}
		if ch := p.waiting[string(m.ID)]; ch != nil {
			delete(p.waiting, string(m.ID))
			ch <- answer
		}
		return
	}
	if m.ID == nil {
		return
	}
	result := func(r string) { say(`{"jsonrpc":"2.0","id":`+string(m.ID)+`,"result":`+r+`}`, true) }
	for kind, method := range listMethods {
		if m.Method == method {
			result(p.page(kind, m.Params))
			return
		}
	}
	switch m.Method {
	case "initialize":
		result(`{"protocolVersion":"2025-11-25","capabilities":` + p.capabilities + `,"serverInfo":` + p.info + `,"instructions":` + p.instructions + `}`)
	case "server/discover":
		result(`{"resultType":"complete","ttlMs":0,"cacheScope":"public","supportedVersions":["2026-07-28"],"capabilities":` + p.capabilities + `,"instructions":` + p.instructions +
			`,"_meta":{"io.modelcontextprotocol/serverInfo":` + p.info + `}}`)
	case "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe":
		result(`{}`)
	default:
		p.play(&m, say)
	}
}

// play does what the peer was told.
func (p *peer) play(m *envelope, say func(msg string, last bool)) {
	p.mu.Lock()
	p.seen = append(p.seen, string(m.Params))
	r := p.next
	p.mu.Unlock()
	var meta struct {
		Meta struct {
			Token json.RawMessage `json:"progressToken"`
		} `json:"_meta"`
	}
	_ = json.Unmarshal(m.Params, &meta) // without a token no progress
	for _, n := range r.notes {
		params := n[1]
		if n[0] == "notifications/progress" {
			if meta.Meta.Token == nil {
				continue
			}
			params = strings.Replace(params, tokenMark, string(meta.Meta.Token), 1)
		}
		say(`{"jsonrpc":"2.0","method":"`+n[0]+`","params":`+params+`}`, false)
	}
	for _, q := range r.asks {
		p.mu.Lock()
		p.serial++
		id, ch := fmt.Sprintf(`"ask-%d"`, p.serial), make(chan string, 1)
		p.waiting[id] = ch
		p.mu.Unlock()
		say(`{"jsonrpc":"2.0","id":`+id+`,"method":"`+q.method+`","params":`+q.params+`}`, false)
		select {
		case a := <-ch:
			p.mu.Lock()
			p.answers = append(p.answers, a)
			p.mu.Unlock()
		case <-time.After(10 * time.Second):
			say(`{"jsonrpc":"2.0","id":`+string(m.ID)+`,"error":{"code":1,"message":"the client did not answer"}}`, true)
			return
		}
	}
	what := `"result":` + r.result
	if r.failure != "" {
		what = `"error":` + r.failure
	}
	if r.reversed {
		say(`{`+what+`,"id":`+string(m.ID)+`,"jsonrpc":"2.0"}`, true)
		return
	}
	say(`{"jsonrpc":"2.0","id":`+string(m.ID)+`,`+what+`}`, true)
}

const (
	tokenMark = "\x00TOKEN"
	pageSize  = 17
)

// page answers a list method, a page at a time.
func (p *peer) page(kind int, params []byte) string {
	var v struct {
		Cursor *string `json:"cursor"`
	}
	_ = json.Unmarshal(params, &v) // without a cursor it is the first page
	from := 0
	if v.Cursor != nil {
		_, _ = fmt.Sscanf(*v.Cursor, "cürsor %d", &from) // a strange cursor begins again, which the comparison shows
	}
	to := min(from+pageSize, len(p.items[kind]))
	more := ""
	if to < len(p.items[kind]) {
		more = fmt.Sprintf(`,"nextCursor":"c\u00fcrsor %d"`, to)
	}
	if p.modern {
		more += `,"resultType":"complete","ttlMs":60000,"cacheScope":"public"`
	}
	return `{"` + listMembers[kind] + `":[` + strings.Join(p.items[kind][from:to], " , ") + `]` + more + `}`
}

// ServeHTTP implements http.Handler.
func (p *peer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		http.Error(w, "POST only", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !p.modern {
		w.Header().Set("Mcp-Session-Id", "random")
	}
	p.mu.Lock()
	streaming := p.next.stream
	p.mu.Unlock()
	begun, answered := false, false
	p.take(body, func(msg string, last bool) {
		answered = true
		if last && !begun && !streaming {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, msg) // who is gone needs no answer
			return
		}
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "text/event-stream")
		}
		fmt.Fprintf(w, "event: message\ndata: %s\n\n", oneLine(msg))
		_ = http.NewResponseController(w).Flush() // as above
	})
	if !answered {
		w.WriteHeader(http.StatusAccepted)
	}
}

// lines serves a client over stdio.
func (p *peer) lines(conn net.Conn) {
	defer conn.Close() //nolint:errcheck // its other end is gone
	var mu sync.Mutex  // guards conn's writes
	var wg sync.WaitGroup
	defer wg.Wait()
	br := bufio.NewReader(conn)
	for {
		line, err := br.ReadBytes('\n')
		if err != nil {
			return
		}
		wg.Go(func() {
			p.take(line, func(msg string, _ bool) {
				mu.Lock()
				defer mu.Unlock()
				_, _ = io.WriteString(conn, oneLine(msg)+"\n") // who is gone needs no answer
			})
		})
	}
}
