// Package config turns gateway.yaml into the configuration of each package, or into a list of everything that is wrong with it.
//
// The keys are those of the Config types, found by reflection: `yaml` names a key, `doc` describes it, `default` and `enum` say
// which values there are, `unit:"bytes"` makes a number a size. A decoder of its own, rather than that of the YAML library, knows
// where each key stands, takes nothing for granted, and reports every fault at once. The same tags make the JSON schema that
// editors use, so the two cannot drift apart.
package config
