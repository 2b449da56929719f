package gateway

import "encoding/json"

// What the gateway's own tools take and return, as tools/list shows it. A test compares the output schemas with what the tools return.

const (
	statusInput = `"inputSchema":{"type":"object","properties":{` +
		`"name":{"type":"string","description":"Only this server or circuit."},` +
		`"state":{"type":"string","enum":["starting","ready","reconnecting","stopped","closed","open","half_open","isolated","disabled"],"description":"Only servers or circuits in this state."},` +
		`"verbose":{"type":"boolean","description":"Also the latest errors."}},"additionalProperties":false}`

	nullString = `{"type":["string","null"]}`

	// The schemas name what a reader needs first; the rest is there and explains itself. Each byte stands in the list that every agent
	// reads at every start, twice.
	circuitSchema = `{"type":"object","properties":{` +
		`"name":{"type":"string"},"downstream":{"type":"string"},"tool":` + nullString + `,` +
		`"state":{"type":"string","enum":["closed","open","half_open","isolated","disabled"]},"state_since":{"type":"string"},"mode":{"type":"string"},` +
		`"last_failure_type":` + nullString + `,"last_failure_message":` + nullString + `,"retry_after_ms":{"type":"integer"},"rejected":{"type":"integer"}},` +
		`"required":["name","downstream","state","retry_after_ms"]}`

	downstreamSchema = `{"type":"object","properties":{` +
		`"name":{"type":"string"},"state":{"type":"string","enum":["starting","ready","reconnecting","stopped"]},"since":{"type":"string"},` +
		`"last_error":` + nullString + `,"retry_after_ms":{"type":["integer","null"]},"tools":{"type":"integer"}},"required":["name","state","since"]}`

	statusOutput = `"outputSchema":{"type":"object","properties":{` +
		`"downstreams":{"type":"array","items":` + downstreamSchema + `},"circuits":{"type":"array","items":` + circuitSchema + `},` +
		`"summary":{"type":"object","properties":{"health":{"type":"string","enum":["healthy","degraded","unhealthy"]},"total":{"type":"integer"},"ready":{"type":"integer"},"open":{"type":"integer"}},"required":["health"]},` +
		`"errors":{"type":"object"}},"required":["downstreams","circuits","summary"]}`
)

var circuitStatusTool = json.RawMessage(`{"name":"circuit_status","title":"Circuit status",` +
	`"description":"Says which MCP servers behind this gateway work, which do not, why, and when they are tried again. Use it when a tool fails or is missing. Answers at once.",` +
	statusInput + `,` + statusOutput + `,` +
	`"annotations":{"title":"Circuit status","readOnlyHint":true,"destructiveHint":false,"idempotentHint":true,"openWorldHint":false}}`)

var circuitMetricsTool = json.RawMessage(`{"name":"circuit_metrics","title":"Circuit metrics",` +
	`"description":"The numbers behind circuit_status: calls, failures, retries, queues and the latest errors of each MCP server behind this gateway. Answers at once.",` +
	statusInput + `,` + statusOutput + `,` +
	`"annotations":{"title":"Circuit metrics","readOnlyHint":true,"destructiveHint":false,"idempotentHint":true,"openWorldHint":false}}`)

var circuitControlTool = json.RawMessage(`{"name":"circuit_control","title":"Circuit control",` +
	`"description":"Changes a circuit by hand, for all users of this gateway: open refuses calls for a time, close lets them pass, reset closes and forgets the history, isolate refuses calls until close or reset, disable only measures until close or reset, probe lets trial calls begin.",` +
	`"inputSchema":{"type":"object","properties":{"name":{"type":"string","description":"The circuit, or the server whose circuit it is."},` +
	`"action":{"type":"string","enum":["open","close","reset","isolate","disable","probe"]}},"required":["name","action"],"additionalProperties":false},` +
	`"outputSchema":{"type":"object","properties":{"action":{"type":"string"},"circuit":` + circuitSchema + `},"required":["action","circuit"]},` +
	`"annotations":{"title":"Circuit control","readOnlyHint":false,"destructiveHint":true,"idempotentHint":true,"openWorldHint":false}}`)
