package gateway

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/mcpgw/mcpgw/telemetry"
)

// bounded is a set of names that takes only so many: the values of an attribute that somebody else chooses.
type bounded struct {
	most  int
	mu    sync.RWMutex // guards known
	known map[string]string
}

func newBounded(most int) *bounded { return &bounded{most: most, known: map[string]string{}} }

// of returns s, or what stands for all that there is no room for.
func (b *bounded) of(s string) string {
	b.mu.RLock()
	v, ok := b.known[s]
	full := len(b.known) >= b.most
	b.mu.RUnlock()
	switch {
	case ok:
		return v
	case full || s == "":
		return telemetry.OtherValue
	}
	s = strings.Clone(s) // it may be part of a message
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.known) >= b.most {
		return telemetry.OtherValue
	}
	b.known[s] = s
	return s
}

// byName keeps one value for each name.
type byName[V any] struct {
	mu sync.RWMutex // guards m
	m  map[string]V
}

// get returns the value of a name, which make makes if there is none.
func (b *byName[V]) get(name string, make func() V) V {
	b.mu.RLock()
	v, ok := b.m[name]
	b.mu.RUnlock()
	if ok {
		return v
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if v, ok := b.m[name]; ok {
		return v
	}
	if b.m == nil {
		b.m = map[string]V{}
	}
	v = make()
	b.m[name] = v
	return v
}

// requestPoint is a series that requests are recorded in, with its attributes, which spans have too.
type requestPoint struct {
	*telemetry.Point
	kv []attribute.KeyValue
}

// attemptPoint is a series that attempts are recorded in.
type attemptPoint struct {
	requestPoint
	byKind [len(attemptKinds)]atomic.Int64 // of each kind
}

// options are the attributes of one series, ready to be recorded with: making them for each event would cost more than recording.
type options struct {
	recording []metric.RecordOption
	adding    []metric.AddOption
	observing metric.ObserveOption
}

// attemptKinds are those of attempts.
var attemptKinds = [...]string{"first", "retry", "hedge"}

func newOptions(kv []attribute.KeyValue) *options {
	set := metric.WithAttributeSet(attribute.NewSet(kv...))
	return &options{recording: []metric.RecordOption{set}, adding: []metric.AddOption{set}, observing: set}
}

// labels is a key that knows its attributes.
type labels interface {
	comparable
	attributes() []attribute.KeyValue
}

// seriesOf keeps what belongs to series by what tells these apart.
type seriesOf[K labels, V any] struct {
	mu sync.RWMutex // guards m
	m  map[K]*V
}

// maxSeries bounds what is kept; series beyond it still work.
const maxSeries = 20000

func (s *seriesOf[K, V]) get(key K, make func([]attribute.KeyValue) *V) *V {
	s.mu.RLock()
	v := s.m[key]
	s.mu.RUnlock()
	if v != nil {
		return v
	}
	v = make(key.attributes())
	s.mu.Lock()
	defer s.mu.Unlock()
	if was := s.m[key]; was != nil {
		return was
	}
	if s.m == nil {
		s.m = map[K]*V{}
	}
	if len(s.m) < maxSeries {
		s.m[key] = v
	}
	return v
}

// each calls f for every series that there is.
func (s *seriesOf[K, V]) each(f func(K, *V)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for k, v := range s.m {
		f(k, v)
	}
}

// eventKey is what tells the series of events apart: a downstream or circuit, and up to three more attributes.
type eventKey struct {
	key, name string
	more      [3]pair
}

type pair struct{ key, value string }

func (k eventKey) attributes() []attribute.KeyValue {
	kv := make([]attribute.KeyValue, 0, 1+len(k.more))
	if k.key != "" {
		kv = append(kv, attribute.String(k.key, k.name))
	}
	for _, p := range k.more {
		if code, err := strconv.Atoi(p.value); err == nil && p.key == telemetry.AttrExitCode {
			kv = append(kv, attribute.Int(p.key, code))
		} else if p.value != "" {
			kv = append(kv, attribute.String(p.key, p.value))
		}
	}
	return kv
}

// of returns the key of a downstream's events.
func of(name string, more ...pair) eventKey {
	k := eventKey{key: telemetry.AttrDownstream, name: name}
	copy(k.more[:], more)
	return k
}

// ofCircuit returns the key of a circuit's events.
func ofCircuit(name string, more ...pair) eventKey {
	k := of(name, more...)
	k.key = telemetry.AttrCircuit
	return k
}
