package gateway

import (
	"maps"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/mcpgw/mcpgw/telemetry"
)

// frozen is a map that is read without a lock: with several processors the lock of a map that every call reads costs more than the reading.
// Who adds to it copies it.
type frozen[K comparable, V any] struct {
	m  atomic.Pointer[map[K]V]
	mu sync.Mutex // held by who adds
}

func (f *frozen[K, V]) all() map[K]V {
	if m := f.m.Load(); m != nil {
		return *m
	}
	return nil
}

// add returns the value of a key, which make makes if there is none. ok is false if there is no room for it.
func (f *frozen[K, V]) add(key K, most int, make func() V) (v V, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.all()
	if v, ok = was[key]; ok || len(was) >= most {
		return v, ok
	}
	m := maps.Clone(was)
	if m == nil {
		m = map[K]V{}
	}
	v = make()
	m[key] = v
	f.m.Store(&m)
	return v, true
}

// bounded is a set of names that takes only so many: the values of an attribute that somebody else chooses.
type bounded struct {
	most  int
	known frozen[string, string]
}

func newBounded(most int) *bounded { return &bounded{most: most} }

// of returns s, or what stands for all that there is no room for.
func (b *bounded) of(s string) string {
	known := b.known.all()
	if v, ok := known[s]; ok {
		return v
	}
	if s == "" || len(known) >= b.most {
		return telemetry.OtherValue
	}
	s = strings.Clone(s) // it may be part of a message
	if v, ok := b.known.add(s, b.most, func() string { return s }); ok {
		return v
	}
	return telemetry.OtherValue
}

// byName keeps one value for each name.
type byName[V any] struct{ frozen[string, V] }

// get returns the value of a name, which make makes if there is none.
func (b *byName[V]) get(name string, make func() V) V {
	if v, ok := b.all()[name]; ok {
		return v
	}
	v, _ := b.add(name, math.MaxInt, make)
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
type seriesOf[K labels, V any] struct{ frozen[K, *V] }

// maxSeries bounds what is kept; series beyond it still work.
const maxSeries = 5000

func (s *seriesOf[K, V]) get(key K, make func([]attribute.KeyValue) *V) *V {
	if v := s.all()[key]; v != nil {
		return v
	}
	if v, ok := s.add(key, maxSeries, func() *V { return make(key.attributes()) }); ok {
		return v
	}
	return make(key.attributes())
}

// each calls f for every series that there is.
func (s *seriesOf[K, V]) each(f func(K, *V)) {
	for k, v := range s.all() {
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
