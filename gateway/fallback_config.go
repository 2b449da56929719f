package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mcpgw/mcpgw/internal/wire"
)

// Fallback is one way to answer a call that a server did not. Exactly one of Downstream, Cache and Static says which.
type Fallback struct {
	Downstream string            `yaml:"downstream" doc:"Another server that is asked. A call that may change something is passed on only if the first server surely did not execute it."`
	ToolMap    map[string]string `yaml:"tool_map" doc:"Which tool of the other server stands in for which of this one. Tools that are not named have no stand-in. Empty: the tool of the same name, if the other server has one."`
	Cache      *CacheFallback    `yaml:"cache" doc:"The last good result of the same read-only call by the same principal, marked as stale."`
	Static     *StaticFallback   `yaml:"static" doc:"A fixed answer to tool calls. For a call that may change something it is an error."`
	Tools      []string          `yaml:"tools" doc:"Tools that it is for, by the server's own name; a star stands for any letters. Empty: all that it can answer."`
	Timeout    time.Duration     `yaml:"timeout" default:"10s" doc:"How long it may take."`
}

// CacheFallback says which results are kept, for each server.
type CacheFallback struct {
	MaxAge     time.Duration `yaml:"max_age" default:"10m" doc:"Older results are not shown."`
	MaxEntries int           `yaml:"max_entries" default:"1000" doc:"Results that are kept; those that were not used for the longest time go first."`
	MaxBytes   int           `yaml:"max_bytes" default:"16MiB" unit:"bytes" doc:"What the results may need altogether."`
}

// StaticFallback is a fixed answer.
type StaticFallback struct {
	Text       string `yaml:"text" doc:"What the result says."`
	Structured string `yaml:"structured" doc:"A JSON object that is the structuredContent of the result."`
}

// DefaultFallback returns a Fallback with every default filled in.
func DefaultFallback() Fallback { return Fallback{Timeout: 10 * time.Second} }

// DefaultCacheFallback returns a CacheFallback with every default filled in.
func DefaultCacheFallback() CacheFallback {
	return CacheFallback{MaxAge: 10 * time.Minute, MaxEntries: 1000, MaxBytes: 16 << 20}
}

// kind names a Fallback in logs, metrics and answers.
func (f *Fallback) kind() string {
	switch {
	case f.Cache != nil:
		return "cache"
	case f.Static != nil:
		return "static"
	}
	return f.Downstream
}

// serves reports whether the fallback is for a tool.
func (f *Fallback) serves(tool string) bool {
	return len(f.Tools) == 0 || slices.ContainsFunc(f.Tools, func(p string) bool {
		return p == tool || strings.Contains(p, "*") && matches(p, tool)
	})
}

func validateFallbacks(list []Fallback) error {
	var errs []error
	cached := false
	for i := range list {
		f, at := &list[i], fmt.Sprintf("fallback[%d]", i)
		kinds := 0
		for _, set := range []bool{f.Downstream != "", f.Cache != nil, f.Static != nil} {
			if set {
				kinds++
			}
		}
		if kinds != 1 {
			errs = append(errs, fieldError(at, "expected one of downstream, cache or static, found %d of them", kinds))
		}
		if len(f.ToolMap) > 0 && f.Downstream == "" {
			errs = append(errs, fieldError(at+".tool_map", "only a fallback to another downstream has it"))
		}
		for _, name := range slices.Sorted(maps.Keys(f.ToolMap)) {
			if f.ToolMap[name] == "" {
				errs = append(errs, fieldError(at+".tool_map."+name, "expected the name of a tool, found nothing"))
			}
		}
		if f.Timeout <= 0 {
			errs = append(errs, fieldError(at+".timeout", "must be more than 0, found %s", f.Timeout))
		}
		if slices.Contains(f.Tools, "") {
			errs = append(errs, fieldError(at+".tools", "the name of a tool must not be empty"))
		}
		if c := f.Cache; c != nil {
			if cached {
				errs = append(errs, fieldError(at+".cache", "a server has one cache: it stands in the list already"))
			}
			cached = true
			for key, n := range map[string]int64{".cache.max_age": int64(c.MaxAge), ".cache.max_bytes": int64(c.MaxBytes), ".cache.max_entries": int64(c.MaxEntries)} {
				if n <= 0 {
					errs = append(errs, fieldError(at+key, "must be more than 0"))
				}
			}
		}
		if s := f.Static; s != nil {
			if s.Text == "" && s.Structured == "" {
				errs = append(errs, fieldError(at+".static", "expected a text or structured content"))
			}
			if raw := json.RawMessage(s.Structured); s.Structured != "" && (!json.Valid(raw) || !wire.IsObject(raw)) {
				errs = append(errs, fieldError(at+".static.structured", "expected a JSON object such as '{\"ok\": false}'"))
			}
		}
	}
	slices.SortStableFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// validateTargets refuses fallbacks to servers that do not exist, and those that lead back to where they came from.
func (s *Settings) validateTargets() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.Downstreams)) {
		for i, f := range s.policiesOf(name).Fallback {
			if f.Downstream == "" {
				continue
			}
			at := fmt.Sprintf("downstreams.%s.resilience.fallback[%d].downstream", name, i)
			if _, ok := s.Downstreams[f.Downstream]; !ok {
				errs = append(errs, fieldError(at, "there is no downstream %q (known: %s)", f.Downstream, strings.Join(slices.Sorted(maps.Keys(s.Downstreams)), ", ")))
				continue
			}
			if way := s.wayBack(f.Downstream, name, nil); way != nil {
				errs = append(errs, fieldError(at, "leads back to %s: %s", name, strings.Join(append([]string{name}, way...), " > ")))
			}
		}
	}
	return errors.Join(errs...)
}

// wayBack follows fallbacks from one server until they reach another; nil if they do not.
func (s *Settings) wayBack(from, to string, way []string) []string {
	if slices.Contains(way, from) {
		return nil // a circle elsewhere
	}
	way = append(slices.Clone(way), from)
	if from == to {
		return way
	}
	for _, f := range s.policiesOf(from).Fallback {
		if f.Downstream != "" {
			if found := s.wayBack(f.Downstream, to, way); found != nil {
				return found
			}
		}
	}
	return nil
}
