package gateway

import (
	"encoding/json"

	"github.com/mcpgw/mcpgw/internal/wire"
	"github.com/mcpgw/mcpgw/resilience"
)

// safety says what repeating a request would do (resilience.md §3.3).
type safety = resilience.Safety

// The values of safety. What is not known to be harmless is unsafe.
const (
	unsafe     = resilience.Unsafe     // may change something each time
	idempotent = resilience.Idempotent // repeating it changes nothing more
	readOnly   = resilience.ReadOnly   // changes nothing
)

// safetyOfTool reads a tool's own hints. They count only for downstreams whose annotations are trusted.
func safetyOfTool(tool json.RawMessage) safety {
	hints := wire.Get(tool, "annotations")
	switch {
	case string(wire.Get(hints, "readOnlyHint")) == "true":
		return readOnly
	case string(wire.Get(hints, "idempotentHint")) == "true":
		return idempotent
	}
	return unsafe
}

// safetyOfMethod is for methods that the gateway passes on without knowing more about them.
func safetyOfMethod(method string) safety {
	switch method {
	case "tasks/get", "tasks/list", "tasks/result":
		return readOnly
	case "tasks/cancel":
		return idempotent
	}
	return unsafe
}

// safetyUnder is safetyOf unless the file says otherwise.
func safetyUnder(guard *resilience.Guard, params *wire.Object, to *route) safety {
	cfg := guard.Config()
	switch cfg.Safety {
	case "read_only":
		return readOnly
	case "idempotent":
		return idempotent
	case "unsafe":
		return unsafe
	}
	return safetyOf(params, to)
}

// safetyOf is how often a request may be made. One that carries what a person answered, or state that the server may take once, is unsafe
// unless it changes nothing at all.
func safetyOf(params *wire.Object, to *route) safety {
	if to.safe == idempotent && (params.Get("inputResponses") != nil || params.Get("requestState") != nil) {
		return unsafe
	}
	return to.safe
}
