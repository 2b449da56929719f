package gateway

import "encoding/json"

// What the gateway's own tools take and return, as tools/list shows it. A test compares the output schemas with what the tools return.

const (
	statusInput = `"inputSchema":{"type":"object","properties":{` +
		`"name":{"type":"string","description":"Only this server or circuit."},` +
		`"state":{"type":"string","enum":["starting","ready","reconnecting","stopped","closed","open","half_open","isolated","disabled"],"description":"Only servers or circuits in this state."},` +
		`"verbose":{"type":"boolean","description":"Also the latest errors."}},"additionalProperties":false}`

	nullTime    = `{"type":["string","null"],"format":"date-time"}`
	nullString  = `{"type":["string","null"]}`
	nullInteger = `{"type":["integer","null"]}`

	circuitSchema = `{"type":"object","properties":{` +
		`"name":{"type":"string"},"downstream":{"type":"string"},"scope":{"type":"string","enum":["downstream","tool"]},"tool":` + nullString + `,` +
		`"state":{"type":"string","enum":["closed","open","half_open","isolated","disabled"]},"state_since":{"type":"string","format":"date-time"},` +
		`"mode":{"type":"string","enum":["enforce","shadow","off"]},"failures":{"type":"integer"},"successes":{"type":"integer"},` +
		`"consecutive_failures":{"type":"integer"},"consecutive_successes":{"type":"integer"},"failure_rate":{"type":"number"},"slow_call_rate":{"type":"number"},` +
		`"last_failure":` + nullTime + `,"last_failure_type":` + nullString + `,"last_failure_message":` + nullString + `,"last_success":` + nullTime + `,` +
		`"opened_at":` + nullTime + `,"next_attempt_at":` + nullTime + `,"retry_after_ms":{"type":"integer"},"consecutive_opens":{"type":"integer"},` +
		`"half_open":{"type":["object","null"]},"rejected":{"type":"integer"},"totals":{"type":"object"},"bulkhead":{"type":["object","null"]},` +
		`"rate_limit":{"type":["object","null"]},"retry_budget":{"type":["object","null"]},"counters":{"type":["object","null"]},` +
		`"abandoned_attempts":{"type":"integer"},"config":{"type":"object"}},` +
		`"required":["name","downstream","scope","state","state_since","failures","successes","retry_after_ms","rejected"]}`

	downstreamSchema = `{"type":"object","properties":{` +
		`"name":{"type":"string"},"state":{"type":"string","enum":["starting","ready","reconnecting","stopped"]},"since":{"type":"string","format":"date-time"},` +
		`"transport":{"type":"string"},"protocol":` + nullString + `,"last_error":` + nullString + `,"last_error_at":` + nullTime + `,` +
		`"last_success":` + nullTime + `,"next_attempt_at":` + nullTime + `,"retry_after_ms":` + nullInteger + `,"failed_attempts":{"type":"integer"},` +
		`"tools":{"type":"integer"},"prompts":{"type":"integer"},"resources":{"type":"integer"},"catalog_age_ms":` + nullInteger + `,"catalog_stale":{"type":"boolean"},` +
		`"list_bytes":{"type":"integer"},"in_flight":{"type":"integer"},"sessions":{"type":"integer"},"problems":{"type":"array","items":{"type":"string"}},` +
		`"endpoints":{"type":["array","null"],"items":{"type":"object"}}},` +
		`"required":["name","state","since","transport","tools"]}`

	statusOutput = `"outputSchema":{"type":"object","properties":{"time":{"type":"string","format":"date-time"},` +
		`"downstreams":{"type":"array","items":` + downstreamSchema + `},"circuits":{"type":"array","items":` + circuitSchema + `},` +
		`"summary":{"type":"object","properties":{"total":{"type":"integer"},"ready":{"type":"integer"},"circuits":{"type":"integer"},"closed":{"type":"integer"},` +
		`"open":{"type":"integer"},"half_open":{"type":"integer"},"isolated":{"type":"integer"},"disabled":{"type":"integer"},"rejected":{"type":"integer"},` +
		`"health":{"type":"string","enum":["healthy","degraded","unhealthy"]}},"required":["total","ready","circuits","closed","open","half_open","health"]},` +
		`"errors":{"type":"object","properties":{"total":{"type":"integer"},"by":{"type":"object","additionalProperties":{"type":"integer"}},"downstreams":{"type":"object"}},"required":["total","by"]}},` +
		`"required":["time","downstreams","circuits","summary"]}`
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
