package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// sessions are those that a legacy server has given out.
type sessions struct {
	mu   sync.Mutex // guards open
	open map[string]bool
	next atomic.Int64
}

func (ss *sessions) begin() string {
	id := "chaos-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(ss.next.Add(1), 10)
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.open[id] = true
	return id
}

func (ss *sessions) known(id string) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.open[id]
}

func (ss *sessions) end(id string) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.open, id)
}

// serveHTTP serves streamable HTTP: JSON for an answer alone, an event stream if notifications come first.
func (s *serverRole) serveHTTP(ctx context.Context) error {
	ss := &sessions{open: map[string]bool{}}
	srv := &http.Server{
		Addr: s.addr, ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.handle(ss, w, r) }),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (s *serverRole) handle(ss *sessions, w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get("Mcp-Session-Id")
	if id != "" && !ss.known(id) {
		http.Error(w, "no such session", http.StatusNotFound)
		return
	}
	switch r.Method {
	case http.MethodDelete:
		ss.end(id)
		w.WriteHeader(http.StatusNoContent)
		return
	case http.MethodGet:
		s.stream(w, r)
		return
	case http.MethodPost:
	default:
		http.Error(w, "POST, GET and DELETE only", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	m := new(message)
	if err := json.Unmarshal(body, m); err != nil {
		http.Error(w, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"not JSON"}}`, http.StatusBadRequest)
		return
	}
	if m.ID == nil {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if m.Method == "initialize" && !s.modern {
		w.Header().Set("Mcp-Session-Id", ss.begin())
	}
	streaming := false
	event := func(text string) {
		if !streaming {
			streaming = true
			w.Header().Set("Content-Type", "text/event-stream")
		}
		fmt.Fprintf(w, "event: message\ndata: %s\n\n", text)
		_ = http.NewResponseController(w).Flush() // a client that went away ends r.Context
	}
	a := s.answer(r.Context(), m, event, io.Discard)
	text := a.message(m.ID)
	switch {
	case text == "":
	case streaming:
		event(text)
	default:
		w.Header().Set("Content-Type", "application/json")
		if a.failure != "" && s.modern {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = io.WriteString(w, text) // a client that went away has been told nothing
	}
}

// stream is the server's own stream of a session: it says nothing but stays open.
func (s *serverRole) stream(w http.ResponseWriter, r *http.Request) {
	if s.modern {
		http.Error(w, "POST only", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, ": here\n\n")
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}
