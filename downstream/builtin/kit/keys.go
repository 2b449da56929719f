package kit

import (
	"errors"
	"fmt"
)

// KeyError says which key of a preset's own section of gateway.yaml is wrong, and why.
type KeyError struct {
	Key string // relative to the section, as in "fallbacks[0].url"
	Msg string // what was expected and what was found
}

func (e *KeyError) Error() string { return e.Key + ": " + e.Msg }

// Faults collects what Validate finds wrong. The zero value is empty.
type Faults struct{ errs []error }

// Add adds a [KeyError].
func (f *Faults) Add(key, format string, args ...any) {
	f.errs = append(f.errs, &KeyError{key, fmt.Sprintf(format, args...)})
}

// Err returns all faults, joined; nil if there are none.
func (f *Faults) Err() error { return errors.Join(f.errs...) }
