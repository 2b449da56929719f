package gateway

import (
	"strconv"
	"testing"
)

func TestMailboxSaysEverythingOnce(t *testing.T) {
	m := newMailbox(3)
	m.put("tools", []byte("a"))
	m.put("tools", []byte("a"))
	m.put("", []byte("b"))
	m.put("", []byte("b"))
	if m.put("", []byte("c")) {
		t.Error("a full mailbox took more")
	}
	if !m.put("tools", []byte("a")) {
		t.Error("news that waits already was refused by a full mailbox")
	}
	<-m.signal
	msgs, dropped := m.take()
	if len(msgs) != 3 || dropped != 1 {
		t.Errorf("got %d messages, %d dropped; want 3 and 1", len(msgs), dropped)
	}
	m.put("tools", []byte("again"))
	<-m.signal
	if msgs, dropped = m.take(); len(msgs) != 1 || dropped != 0 {
		t.Errorf("after taking: got %d messages, %d dropped; want 1 and 0", len(msgs), dropped)
	}
}

func TestMailboxNeverBlocks(t *testing.T) {
	m := newMailbox(10)
	for i := range 10000 {
		m.put(strconv.Itoa(i), nil)
	}
	msgs, dropped := m.take()
	if len(msgs) != 10 || dropped != 9990 {
		t.Errorf("got %d and %d", len(msgs), dropped)
	}
}
