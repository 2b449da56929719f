package telemetry

// Kind is what kind of instrument a metric is.
type Kind string

// The kinds of metrics.
const (
	Histogram     Kind = "histogram"
	Counter       Kind = "counter"
	UpDownCounter Kind = "updowncounter"
	Gauge         Kind = "gauge"
)

// The attributes of metrics and spans. Those of the MCP and GenAI conventions keep their names, the others begin with "mcpgw.".
const (
	AttrMethod     = "mcp.method.name"
	AttrProtocol   = "mcp.protocol.version"
	AttrSession    = "mcp.session.id"
	AttrResource   = "mcp.resource.uri"
	AttrTool       = "gen_ai.tool.name"
	AttrPrompt     = "gen_ai.prompt.name"
	AttrOperation  = "gen_ai.operation.name"
	AttrError      = "error.type"
	AttrStatus     = "rpc.response.status_code"
	AttrRequestID  = "jsonrpc.request.id"
	AttrTransport  = "network.transport"
	AttrServer     = "server.address"
	AttrServerPort = "server.port"
	AttrDownstream = "mcpgw.downstream.name"
	AttrCircuit    = "mcpgw.circuit.name"
	AttrState      = "mcpgw.circuit.state"
	AttrFrom       = "mcpgw.circuit.from"
	AttrTo         = "mcpgw.circuit.to"
	AttrKind       = "mcpgw.attempt.kind"
	AttrNumber     = "mcpgw.attempt.number"
	AttrOutcome    = "mcpgw.outcome"
	AttrReason     = "mcpgw.reason"
	AttrResult     = "mcpgw.result"
	AttrScope      = "mcpgw.timeout.scope"
	AttrFallback   = "mcpgw.fallback.name"
	AttrDependency = "mcpgw.dependency.name"
	AttrMode       = "mcpgw.mode"
	AttrDelay      = "mcpgw.delay_ms"
	AttrExecuted   = "mcpgw.executed"
	AttrExitCode   = "process.exit.code"
	AttrCPUMode    = "cpu.mode"
	AttrMemoryType = "go.memory.type"
	OtherValue     = "_OTHER" // stands for values beyond the bound of an attribute
	ToolError      = "tool_error"
	OperationTool  = "execute_tool"
	ScopeName      = "mcpgw" // of the meter and the tracer
)

// Def describes one metric: the table of docs/telemetry.md is made from it, and so are the instruments.
type Def struct {
	Name    string
	Kind    Kind
	Unit    string
	Attrs   []string
	Buckets []float64 // of a histogram
	Help    string
}

// operationBuckets are those that the conventions for MCP advise.
var operationBuckets = []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300}

var (
	overheadBuckets = []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1}
	waitBuckets     = []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30}
	outageBuckets   = []float64{1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400}
	sessionBuckets  = []float64{1, 10, 60, 300, 900, 1800, 3600, 14400, 43200, 86400}
)

// Table lists every metric, in the order of the documentation.
func Table() []Def { return table }

var table = []Def{
	{"mcp.server.operation.duration", Histogram, "s", []string{AttrMethod, AttrError, AttrTool, AttrStatus, AttrProtocol, AttrTransport, AttrOperation}, operationBuckets, "Requests of clients, from their arrival to the answer."},
	{"mcp.client.operation.duration", Histogram, "s", []string{AttrMethod, AttrError, AttrTool, AttrStatus, AttrProtocol, AttrTransport, AttrOperation, AttrDownstream, AttrServer, AttrServerPort}, operationBuckets, "Attempts at downstreams, one for each."},
	{"mcp.server.session.duration", Histogram, "s", []string{AttrError}, sessionBuckets, "Sessions of clients that have ended."},
	{"mcp.client.session.duration", Histogram, "s", []string{AttrDownstream, AttrError}, sessionBuckets, "Sessions with downstreams that have ended."},
	{"mcpgw.call.duration", Histogram, "s", []string{AttrDownstream, AttrMethod, AttrError}, operationBuckets, "Calls to downstreams with everything: queues, attempts, pauses."},
	{"mcpgw.call.overhead", Histogram, "s", []string{AttrDownstream}, overheadBuckets, "What the policies added to a call: its duration without the downstream's time and without waits."},
	{"mcpgw.call.active", UpDownCounter, "{call}", []string{AttrDownstream}, nil, "Calls that are under way."},
	{"mcpgw.attempts", Counter, "{attempt}", []string{AttrDownstream, AttrError, AttrKind}, nil, "Attempts that reached the downstream's function; kind is first, retry or hedge."},
	{"mcpgw.attempt.abandoned", UpDownCounter, "{attempt}", []string{AttrDownstream}, nil, "Attempts that still run although their caller is gone."},
	{"mcpgw.attempt.late", Counter, "{response}", []string{AttrDownstream, AttrOutcome}, nil, "Answers that came when nobody waited for them any more; outcome is success or error."},
	{"mcpgw.retry.scheduled", Counter, "{retry}", []string{AttrDownstream, AttrError}, nil, "Attempts that failed and will be repeated."},
	{"mcpgw.retry.success", Counter, "{call}", []string{AttrDownstream}, nil, "Calls that succeeded after at least one repetition."},
	{"mcpgw.retry.exhausted", Counter, "{call}", []string{AttrDownstream, AttrError}, nil, "Calls all of whose attempts failed."},
	{"mcpgw.retry.suppressed", Counter, "{retry}", []string{AttrDownstream, AttrReason}, nil, "Failures that were not repeated; reason is not_idempotent, budget, deadline, circuit_open or retry_after."},
	{"mcpgw.retry.delay", Histogram, "s", []string{AttrDownstream}, waitBuckets, "Pauses before repetitions."},
	{"mcpgw.retry.per_call", Histogram, "{retry}", []string{AttrDownstream}, []float64{1, 2, 3, 4, 5}, "Repetitions of a call that had any."},
	{"mcpgw.retry_budget.tokens", Gauge, "{token}", []string{AttrDownstream}, nil, "Repetitions that the budget still allows."},
	{"mcpgw.circuit_breaker.state", UpDownCounter, "{circuit}", []string{AttrCircuit, AttrState}, nil, "1 for the state that the circuit is in, 0 for the others."},
	{"mcpgw.circuit_breaker.calls", Counter, "{call}", []string{AttrCircuit, AttrResult}, nil, "Attempts as the circuit counted them; result is success, failure, ignored or stale."},
	{"mcpgw.circuit_breaker.rejected", Counter, "{call}", []string{AttrCircuit, AttrReason}, nil, "Calls that the circuit refused; reason is circuit_open, half_open_limit or isolated."},
	{"mcpgw.circuit_breaker.transitions", Counter, "{transition}", []string{AttrCircuit, AttrFrom, AttrTo, AttrReason}, nil, "Changes of state."},
	{"mcpgw.circuit_breaker.failure_rate", Gauge, "1", []string{AttrCircuit}, nil, "Share of failures in the window."},
	{"mcpgw.circuit_breaker.slow_call_rate", Gauge, "1", []string{AttrCircuit}, nil, "Share of slow calls in the window."},
	{"mcpgw.circuit_breaker.consecutive_failures", Gauge, "{failure}", []string{AttrCircuit}, nil, "Failures in a row."},
	{"mcpgw.circuit_breaker.outage.duration", Histogram, "s", []string{AttrCircuit}, outageBuckets, "Outages that are over, from the first opening to the closing."},
	{"mcpgw.circuit_breaker.half_open.in_flight", Gauge, "{call}", []string{AttrCircuit}, nil, "Trials under way."},
	{"mcpgw.circuit_breaker.retry_after", Gauge, "s", []string{AttrCircuit}, nil, "Time until an open circuit lets a trial pass."},
	{"mcpgw.bulkhead.limit", Gauge, "{call}", []string{AttrDownstream}, nil, "Attempts that may run at the same time."},
	{"mcpgw.bulkhead.in_flight", Gauge, "{call}", []string{AttrDownstream}, nil, "Attempts that run."},
	{"mcpgw.bulkhead.queued", Gauge, "{call}", []string{AttrDownstream}, nil, "Attempts that wait for their turn."},
	{"mcpgw.bulkhead.rejected", Counter, "{call}", []string{AttrDownstream, AttrReason}, nil, "Calls that found no place; reason is bulkhead_full or queue_timeout."},
	{"mcpgw.bulkhead.wait", Histogram, "s", []string{AttrDownstream}, waitBuckets, "Waits in the queue, of the attempts that had to wait."},
	{"mcpgw.rate_limit.rejected", Counter, "{call}", []string{AttrDownstream}, nil, "Calls that the rate limit refused."},
	{"mcpgw.rate_limit.wait", Histogram, "s", []string{AttrDownstream}, waitBuckets, "Waits for the rate limit, of the attempts that had to wait."},
	{"mcpgw.timeout.exceeded", Counter, "{timeout}", []string{AttrDownstream, AttrScope}, nil, "Timeouts; scope is overall, attempt, idle, connect or queue."},
	{"mcpgw.fallback.executed", Counter, "{call}", []string{AttrDownstream, AttrFallback, AttrResult}, nil, "Fallbacks that ran; result is success or failure."},
	{"mcpgw.hedge.started", Counter, "{attempt}", []string{AttrDownstream}, nil, "Second attempts that were started beside a slow first one."},
	{"mcpgw.hedge.won", Counter, "{attempt}", []string{AttrDownstream}, nil, "Second attempts that answered first."},
	{"mcpgw.errors", Counter, "{error}", []string{AttrDownstream, AttrError}, nil, "Attempts that failed, cancelled ones left out."},
	{"mcpgw.panics", Counter, "{panic}", []string{AttrDownstream}, nil, "Panics that were caught on the way to a downstream."},
	{"mcpgw.downstream.up", Gauge, "{downstream}", []string{AttrDownstream, AttrTransport}, nil, "1 while a session with the downstream is open."},
	{"mcpgw.downstream.reconnects", Counter, "{reconnect}", []string{AttrDownstream, AttrReason}, nil, "Sessions that were opened again; reason says how the last one ended: session_ended or connect_failed."},
	{"mcpgw.downstream.restarts", Counter, "{restart}", []string{AttrDownstream, AttrExitCode}, nil, "Processes of a stdio downstream that ended and are started again; the exit code is -1 where a signal ended it."},
	{"mcpgw.downstream.probe.duration", Histogram, "s", []string{AttrDownstream, AttrError}, operationBuckets, "Probes of a downstream whose circuit is open."},
	{"mcpgw.downstream.pushback", Histogram, "s", []string{AttrDownstream}, outageBuckets, "How long downstreams asked callers to stay away (Retry-After)."},
	{"mcpgw.degraded", Gauge, "{dependency}", []string{AttrDependency, AttrMode}, nil, "1 while something that the gateway itself needs is away; mode says what it does instead."},
	{"mcpgw.admission.rejected", Counter, "{call}", nil, nil, "Calls that the gateway as a whole had no room for."},
	{"go.goroutine.count", UpDownCounter, "{goroutine}", nil, nil, "Goroutines of the gateway."},
	{"go.memory.used", UpDownCounter, "By", []string{AttrMemoryType}, nil, "Memory that the Go runtime uses; type is stack or other."},
	{"process.cpu.time", Counter, "s", []string{AttrCPUMode}, nil, "CPU time of the gateway; mode is user or system."},
}
