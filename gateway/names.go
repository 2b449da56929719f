package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// maxExposedLen keeps "mcp__mcpgw__" + name within the 64 characters that model APIs allow (systems.md §4.4).
const maxExposedLen = 50

// exposedNames gives each name that a downstream uses the name under which the gateway offers it: "<downstream>__<name>", made of
// letters, digits, '_' and '-', at most maxExposedLen long. Names that clients could take for one another all get a hash of the
// original, so that no order and no later arrival decides who is meant. The result has an entry for each of own.
//
// Names of different downstreams never meet: a downstream's name holds no "__" and does not end in '_' (see validName), so the
// first "__" always ends it.
func exposedNames(downstream string, own []string) map[string]string {
	prefix := downstream + "__"
	plain := make(map[string]string, len(own))
	claims := make(map[string]int, len(own))
	for _, name := range own {
		if _, twice := plain[name]; twice {
			continue
		}
		plain[name] = prefix + sanitize(name)
		claims[fold(plain[name])]++
	}
	for name, exposed := range plain {
		if len(exposed) > maxExposedLen || claims[fold(exposed)] > 1 {
			plain[name] = hashed(exposed, downstream, name)
		}
	}
	return plain
}

// sanitize replaces what model APIs do not allow in a tool name.
func sanitize(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-':
			return r
		}
		return '_'
	}, name)
}

// fold maps names to one another that some client does not tell apart: Codex and OpenCode fold '-' and '.', some fold case.
func fold(name string) string {
	return strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToLower(name))
}

// hashed shortens exposed as needed to end it with a hash of what it stands for, which is the same at every start and on every
// replica.
func hashed(exposed, downstream, name string) string {
	sum := sha256.Sum256([]byte(downstream + "\x00" + name))
	tail := "_" + hex.EncodeToString(sum[:4])
	return exposed[:min(len(exposed), maxExposedLen-len(tail))] + tail
}
