package downstream

import (
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin"
	"github.com/mcpgw/mcpgw/downstream/builtin/lab"
)

// Modern is the first revision without a handshake: each request carries its revision and capabilities in its _meta
// (specification 2026-07-28, basic/versioning).
const Modern = "2026-07-28"

// Legacy is the newest revision with the initialize handshake.
const Legacy = "2025-11-25"

// Revisions are the protocol revisions that the gateway speaks in both directions, oldest first.
var Revisions = []string{"2024-11-05", "2025-03-26", "2025-06-18", Legacy, Modern}

// Reserved members of _meta (specification 2026-07-28, basic/index). Each hop writes its own.
const (
	MetaProtocolVersion    = "io.modelcontextprotocol/protocolVersion"
	MetaClientInfo         = "io.modelcontextprotocol/clientInfo"
	MetaClientCapabilities = "io.modelcontextprotocol/clientCapabilities"
	MetaLogLevel           = "io.modelcontextprotocol/logLevel"
	MetaServerInfo         = "io.modelcontextprotocol/serverInfo"
	MetaSubscriptionID     = "io.modelcontextprotocol/subscriptionId"
)

// Presets returns the names of the built-in servers.
func Presets() []string { return builtin.Names() }

// Lab holds the simulated systems that presets with "url: lab" talk to.
type Lab = lab.Lab

// LabFault is what can be wrong with a simulated system.
type LabFault = lab.Fault

// LabStatus is how a simulated system is.
type LabStatus = lab.Status

// ParseLabFault returns the fault of a name; delay is for those that have one, 0 for the usual.
func ParseLabFault(name string, delay time.Duration) (LabFault, error) {
	return lab.ParseFault(name, delay)
}

// LabFaults returns the names of all faults, sorted.
func LabFaults() []string { return lab.AllFaults() }

// NewLab returns a Lab without simulators.
func NewLab() *Lab { return lab.New() }
