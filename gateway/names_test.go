package gateway

import (
	"regexp"
	"strings"
	"testing"
)

func TestExposedNames(t *testing.T) {
	long := strings.Repeat("very_long_tool_name_", 5)
	got := exposedNames("files", []string{"read", "Write-It", "list.dir", "a/b", "a b", "dup", "DUP", long})
	want := map[string]string{
		"read":     "files__read",
		"Write-It": "files__Write-It",
		"list.dir": "files__list_dir",
		"a/b":      hashed("files__a_b", "files", "a/b"),
		"a b":      hashed("files__a_b", "files", "a b"),
		"dup":      hashed("files__dup", "files", "dup"),
		"DUP":      hashed("files__DUP", "files", "DUP"),
		long:       hashed("files__"+long, "files", long),
	}
	for own, name := range want {
		if got[own] != name {
			t.Errorf("%s is exposed as %s, want %s", own, got[own], name)
		}
	}
	if n := len(got[long]); n != maxExposedLen {
		t.Errorf("a long name has %d characters, want %d", n, maxExposedLen)
	}
}

func TestHashOfANameNeverChanges(t *testing.T) {
	// Clients keep names in their own configuration: what was exposed once stays valid.
	if got, want := hashed("files__a_b", "files", "a/b"), "files__a_b_93553ba0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

var exposable = regexp.MustCompile(`^[A-Za-z0-9_-]{1,50}$`)

// FuzzNameMap checks that names stay apart, within the charset and the length, and do not depend on order.
func FuzzNameMap(f *testing.F) {
	f.Add("files", "read\nwrite\nWRITE\na.b\na-b\na_b")
	f.Add("x-Y1", strings.Repeat("é", 60)+"\n\n \n"+strings.Repeat("n", 200))
	f.Fuzz(func(t *testing.T, downstream, names string) {
		if validName(downstream) != nil {
			return
		}
		own := strings.Split(names, "\n")
		got := exposedNames(downstream, own)
		folded := map[string]string{}
		for name, exposed := range got {
			if !exposable.MatchString(exposed) {
				t.Fatalf("%q is exposed as %q", name, exposed)
			}
			if !strings.HasPrefix(exposed, downstream+"__") {
				t.Fatalf("%q lost its prefix: %q", name, exposed)
			}
			if other, clash := folded[fold(exposed)]; clash {
				t.Fatalf("%q and %q are both %q to some client", name, other, exposed)
			}
			folded[fold(exposed)] = name
		}
		reversed := make([]string, len(own))
		for i, name := range own {
			reversed[len(own)-1-i] = name
		}
		for name, exposed := range exposedNames(downstream, reversed) {
			if got[name] != exposed {
				t.Fatalf("%q depends on the order: %q or %q", name, got[name], exposed)
			}
		}
	})
}

// FuzzURIMap checks that a qualified URI leads back to what it was made of, and to nothing else.
func FuzzURIMap(f *testing.F) {
	f.Add("files", "file:///a/b?c#d")
	f.Add("a-b", "mcpgw://files/x")
	f.Fuzz(func(t *testing.T, downstream, uri string) {
		if validName(downstream) != nil || uri == "" {
			return
		}
		name, own, ok := splitURI(qualifiedURI(downstream, uri))
		if !ok || name != downstream || own != uri {
			t.Fatalf("%q of %q came back as %q of %q (%v)", uri, downstream, own, name, ok)
		}
	})
}

func TestNamesOfDownstreams(t *testing.T) {
	for _, good := range []string{"files", "pf-sense", "A1", "_x", "a_b"} {
		if err := validName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "a__b", "a_", "a.b", "a b", "é", strings.Repeat("x", 31)} {
		if validName(bad) == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
