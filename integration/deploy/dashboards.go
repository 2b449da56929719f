package main

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// dashboard is one Grafana dashboard in short. The JSON files in deploy/grafana/dashboards are made from it (-write).
type dashboard struct {
	file, uid, title string
	rows             []row
}

type row struct {
	title  string
	panels []panel
}

// panel is one picture. Its queries use $downstream and $circuit.
type panel struct {
	title, kind, unit, help string
	width, height           int
	queries                 []query
	runbook                 string
}

type query struct{ expr, legend string }

const (
	byDownstream = `{mcpgw_downstream_name=~"$downstream"}`
	ofDownstream = `mcpgw_downstream_name=~"$downstream"`
	byCircuit    = `{mcpgw_circuit_name=~"$circuit"}`
)

func quantiles(metric, filter, by string) []query {
	var list []query
	for _, q := range []string{"0.5", "0.95", "0.99"} {
		list = append(list, query{
			fmt.Sprintf(`histogram_quantile(%s, sum by (le%s) (rate(%s_bucket%s[$__rate_interval])))`, q, by, metric, filter),
			"p" + q[2:] + map[bool]string{true: " {{mcpgw_downstream_name}}"}[by != ""],
		})
	}
	return list
}

func rate(metric, filter, by, legend string) query {
	return query{fmt.Sprintf(`sum by (%s) (rate(%s%s[$__rate_interval]))`, by, metric, filter), legend}
}

var dashboards = []dashboard{
	{"resilience.json", "mcpgw-resilience", "mcpgw: resilience", []row{
		{"Health", []panel{
			{title: "Servers up", kind: "stat", queries: []query{{`sum(mcpgw_downstream_up)`, "up"}, {`count(mcpgw_downstream_up)`, "all"}}, width: 4, runbook: "downstream-down"},
			{title: "Open circuits", kind: "stat", queries: []query{{`sum(mcpgw_circuit_breaker_state{mcpgw_circuit_state="open"})`, "open"}}, width: 4, runbook: "circuit-open"},
			{title: "Gateway availability", kind: "stat", unit: "percentunit", queries: []query{{`1 - (sum(increase(mcpgw_call_duration_seconds_count{error_type=~"internal|panic|overloaded|gateway_overloaded"}[$__range])) or vector(0)) / sum(increase(mcpgw_call_duration_seconds_count[$__range]))`, ""}}, width: 4, help: "Calls that did not fail in the gateway itself; objective 99.99 %.", runbook: "error-budget"},
			{title: "What users see", kind: "stat", unit: "percentunit", queries: []query{{`1 - (sum(increase(mcpgw_call_duration_seconds_count{error_type!="",error_type!~"tool_error|-32(60[0-2]|002)|cancelled|caller_deadline|40[0-9]|429"}[$__range])) or vector(0)) / sum(increase(mcpgw_call_duration_seconds_count[$__range]))`, ""}}, width: 4, help: "The same with the outages of the servers behind it."},
			{title: "p95 of all calls", kind: "stat", unit: "s", queries: []query{{`histogram_quantile(0.95, sum by (le) (rate(mcpgw_call_duration_seconds_bucket[$__rate_interval])))`, ""}}, width: 4},
			{title: "Degraded", kind: "stat", queries: []query{{`sum(mcpgw_degraded) or vector(0)`, ""}}, width: 4},
		}},
		{"Circuits", []panel{
			{title: "State", kind: "state-timeline", queries: []query{{`max by (mcpgw_circuit_name) (mcpgw_circuit_breaker_state{mcpgw_circuit_name=~"$circuit",mcpgw_circuit_state="half_open"} * 1 or mcpgw_circuit_breaker_state{mcpgw_circuit_name=~"$circuit",mcpgw_circuit_state="open"} * 2 or mcpgw_circuit_breaker_state{mcpgw_circuit_name=~"$circuit",mcpgw_circuit_state="isolated"} * 3)`, "{{mcpgw_circuit_name}}"}}, width: 24, help: "0 closed, 1 half open, 2 open, 3 isolated.", runbook: "circuit-open"},
			{title: "Changes of state per hour", kind: "timeseries", queries: []query{{`sum by (mcpgw_circuit_name, mcpgw_circuit_to, mcpgw_reason) (increase(mcpgw_circuit_breaker_transitions_total` + byCircuit + `[1h]))`, "{{mcpgw_circuit_name}} → {{mcpgw_circuit_to}} ({{mcpgw_reason}})"}}, runbook: "circuit-flapping"},
			{title: "Duration of outages", kind: "timeseries", unit: "s", queries: []query{{`histogram_quantile(0.5, sum by (le) (increase(mcpgw_circuit_breaker_outage_duration_seconds_bucket` + byCircuit + `[6h])))`, "p50"}, {`histogram_quantile(0.95, sum by (le) (increase(mcpgw_circuit_breaker_outage_duration_seconds_bucket` + byCircuit + `[6h])))`, "p95"}}},
			{title: "Calls by result", kind: "timeseries", unit: "cps", queries: []query{rate("mcpgw_circuit_breaker_calls_total", byCircuit, "mcpgw_result", "{{mcpgw_result}}"), rate("mcpgw_circuit_breaker_rejected_total", byCircuit, "mcpgw_reason", "refused: {{mcpgw_reason}}")}},
			{title: "Failure rate", kind: "timeseries", unit: "percentunit", queries: []query{{`mcpgw_circuit_breaker_failure_rate_ratio` + byCircuit, "{{mcpgw_circuit_name}}"}, {`mcpgw_circuit_breaker_slow_call_rate_ratio` + byCircuit, "slow {{mcpgw_circuit_name}}"}}},
			{title: "Failures in a row", kind: "timeseries", queries: []query{{`mcpgw_circuit_breaker_consecutive_failures` + byCircuit, "{{mcpgw_circuit_name}}"}}},
			{title: "Time to the next trial", kind: "timeseries", unit: "s", queries: []query{{`mcpgw_circuit_breaker_retry_after_seconds` + byCircuit, "{{mcpgw_circuit_name}}"}, {`mcpgw_circuit_breaker_half_open_in_flight` + byCircuit, "trials {{mcpgw_circuit_name}}"}}},
		}},
		{"Repetitions, timeouts, limits", []panel{
			{title: "Attempts for each call", kind: "timeseries", queries: []query{{`sum by (mcpgw_downstream_name) (rate(mcpgw_attempts_total` + byDownstream + `[$__rate_interval])) / sum by (mcpgw_downstream_name) (rate(mcpgw_attempts_total{mcpgw_attempt_kind="first",` + ofDownstream + `}[$__rate_interval]))`, "{{mcpgw_downstream_name}}"}}, runbook: "retry-storm"},
			{title: "Repetitions", kind: "timeseries", unit: "cps", queries: []query{rate("mcpgw_retry_scheduled_total", byDownstream, "error_type", "after {{error_type}}"), rate("mcpgw_retry_success_total", byDownstream, "mcpgw_downstream_name", "helped {{mcpgw_downstream_name}}"), rate("mcpgw_retry_exhausted_total", byDownstream, "mcpgw_downstream_name", "in vain {{mcpgw_downstream_name}}"), rate("mcpgw_retry_suppressed_total", byDownstream, "mcpgw_reason", "not made: {{mcpgw_reason}}")}},
			{title: "Budget", kind: "timeseries", queries: []query{{`mcpgw_retry_budget_tokens` + byDownstream, "{{mcpgw_downstream_name}}"}}},
			{title: "Timeouts", kind: "timeseries", unit: "cps", queries: []query{rate("mcpgw_timeout_exceeded_total", byDownstream, "mcpgw_downstream_name, mcpgw_timeout_scope", "{{mcpgw_downstream_name}} {{mcpgw_timeout_scope}}")}, runbook: "hung-downstream"},
			{title: "Bulkhead", kind: "timeseries", unit: "percentunit", queries: []query{{`mcpgw_bulkhead_in_flight` + byDownstream + ` / mcpgw_bulkhead_limit` + byDownstream, "{{mcpgw_downstream_name}}"}}, runbook: "bulkhead-saturated"},
			{title: "Queue", kind: "timeseries", queries: []query{{`mcpgw_bulkhead_queued` + byDownstream, "{{mcpgw_downstream_name}}"}, rate("mcpgw_bulkhead_rejected_total", byDownstream, "mcpgw_reason", "refused: {{mcpgw_reason}}")}},
			{title: "Waiting in the queue, p95", kind: "timeseries", unit: "s", queries: []query{{`histogram_quantile(0.95, sum by (le, mcpgw_downstream_name) (rate(mcpgw_bulkhead_wait_seconds_bucket` + byDownstream + `[$__rate_interval])))`, "{{mcpgw_downstream_name}}"}}},
			{title: "Pushback and rate limit", kind: "timeseries", unit: "cps", queries: []query{rate("mcpgw_downstream_pushback_seconds_count", byDownstream, "mcpgw_downstream_name", "pushback {{mcpgw_downstream_name}}"), rate("mcpgw_rate_limit_rejected_total", byDownstream, "mcpgw_downstream_name", "refused {{mcpgw_downstream_name}}")}, runbook: "pushback"},
			{title: "Fallbacks", kind: "timeseries", unit: "cps", queries: []query{rate("mcpgw_fallback_executed_total", byDownstream, "mcpgw_fallback_name, mcpgw_result", "{{mcpgw_fallback_name}} {{mcpgw_result}}")}},
			{title: "Hedges", kind: "timeseries", unit: "cps", queries: []query{rate("mcpgw_hedge_started_total", byDownstream, "mcpgw_downstream_name", "started {{mcpgw_downstream_name}}"), rate("mcpgw_hedge_won_total", byDownstream, "mcpgw_downstream_name", "won {{mcpgw_downstream_name}}")}},
			{title: "Calls that nobody waits for", kind: "timeseries", queries: []query{{`mcpgw_attempt_abandoned` + byDownstream, "{{mcpgw_downstream_name}}"}, {`sum by (mcpgw_downstream_name, mcpgw_outcome) (increase(mcpgw_attempt_late_total` + byDownstream + `[$__rate_interval]))`, "late {{mcpgw_outcome}} {{mcpgw_downstream_name}}"}}, runbook: "late-success"},
			{title: "Errors by class", kind: "timeseries", unit: "cps", queries: []query{rate("mcpgw_errors_total", byDownstream, "mcpgw_downstream_name, error_type", "{{mcpgw_downstream_name}} {{error_type}}")}},
			{title: "Panics and refusals of the whole gateway", kind: "timeseries", queries: []query{{`sum(increase(mcpgw_panics_total[$__rate_interval])) or vector(0)`, "panics"}, {`sum(increase(mcpgw_admission_rejected_total[$__rate_interval])) or vector(0)`, "refused"}}, runbook: "panic"},
		}},
	}},
	{"traffic.json", "mcpgw-traffic", "mcpgw: traffic", []row{
		{"Clients", []panel{
			{title: "Requests by method", kind: "timeseries", unit: "reqps", queries: []query{rate("mcp_server_operation_duration_seconds_count", "", "mcp_method_name", "{{mcp_method_name}}")}, width: 12},
			{title: "Errors told to clients", kind: "timeseries", unit: "reqps", queries: []query{rate("mcp_server_operation_duration_seconds_count", `{error_type!=""}`, "mcp_method_name, error_type", "{{mcp_method_name}} {{error_type}}")}, width: 12},
			{title: "Latency of tools/call", kind: "timeseries", unit: "s", queries: quantiles("mcp_server_operation_duration_seconds", `{mcp_method_name="tools/call"}`, ""), width: 12},
			{title: "Busiest tools", kind: "timeseries", unit: "reqps", queries: []query{{`topk(10, sum by (gen_ai_tool_name) (rate(mcp_server_operation_duration_seconds_count{mcp_method_name="tools/call"}[$__rate_interval])))`, "{{gen_ai_tool_name}}"}}, width: 12},
			{title: "Protocol revisions", kind: "timeseries", unit: "reqps", queries: []query{rate("mcp_server_operation_duration_seconds_count", "", "mcp_protocol_version, network_transport", "{{mcp_protocol_version}} {{network_transport}}")}},
			{title: "Sessions that ended", kind: "timeseries", queries: []query{{`sum(increase(mcp_server_session_duration_seconds_count[$__rate_interval]))`, "sessions"}}},
		}},
		{"Gateway", []panel{
			{title: "What the gateway adds", kind: "timeseries", unit: "s", queries: quantiles("mcpgw_call_overhead_seconds", "", ""), runbook: "gateway-latency"},
			{title: "Calls under way", kind: "timeseries", queries: []query{{`sum by (mcpgw_downstream_name) (mcpgw_call_active)`, "{{mcpgw_downstream_name}}"}}},
			{title: "CPU", kind: "timeseries", unit: "percentunit", queries: []query{{`sum by (cpu_mode) (rate(process_cpu_time_seconds_total[$__rate_interval]))`, "{{cpu_mode}}"}}},
			{title: "CPU per request", kind: "timeseries", unit: "s", queries: []query{{`sum(rate(process_cpu_time_seconds_total[$__rate_interval])) / sum(rate(mcp_server_operation_duration_seconds_count[$__rate_interval]))`, ""}}},
			{title: "Memory", kind: "timeseries", unit: "bytes", queries: []query{{`go_memory_used_bytes`, "{{go_memory_type}}"}}},
			{title: "Goroutines", kind: "timeseries", queries: []query{{`go_goroutines`, ""}}},
		}},
	}},
	{"downstream.json", "mcpgw-downstream", "mcpgw: one server", []row{
		{"$downstream", []panel{
			{title: "Up", kind: "state-timeline", queries: []query{{`mcpgw_downstream_up` + byDownstream, "{{mcpgw_downstream_name}}"}}, width: 24, runbook: "downstream-down"},
			{title: "Calls", kind: "timeseries", unit: "cps", queries: []query{rate("mcpgw_call_duration_seconds_count", byDownstream, "mcp_method_name, error_type", "{{mcp_method_name}} {{error_type}}")}},
			{title: "Latency of calls (with queue and repetitions)", kind: "timeseries", unit: "s", queries: quantiles("mcpgw_call_duration_seconds", byDownstream, ", mcpgw_downstream_name")},
			{title: "Latency of attempts", kind: "timeseries", unit: "s", queries: quantiles("mcp_client_operation_duration_seconds", byDownstream, ", mcpgw_downstream_name")},
			{title: "Latency of attempts, heat map", kind: "heatmap", unit: "s", queries: []query{{`sum by (le) (increase(mcp_client_operation_duration_seconds_bucket` + byDownstream + `[$__rate_interval]))`, "{{le}}"}}},
			{title: "Errors", kind: "timeseries", unit: "cps", queries: []query{rate("mcpgw_errors_total", byDownstream, "error_type", "{{error_type}}")}},
			{title: "Tools that fail", kind: "timeseries", unit: "cps", queries: []query{{`topk(10, sum by (gen_ai_tool_name, error_type) (rate(mcp_client_operation_duration_seconds_count{error_type!="",` + ofDownstream + `}[$__rate_interval])))`, "{{gen_ai_tool_name}} {{error_type}}"}}},
			{title: "Sessions opened again", kind: "timeseries", queries: []query{{`sum by (mcpgw_reason) (increase(mcpgw_downstream_reconnects_total` + byDownstream + `[$__rate_interval]))`, "{{mcpgw_reason}}"}, {`sum by (process_exit_code) (increase(mcpgw_downstream_restarts_total` + byDownstream + `[$__rate_interval]))`, "process ended: {{process_exit_code}}"}}, runbook: "crash-loop"},
			{title: "Probes", kind: "timeseries", unit: "s", queries: []query{{`histogram_quantile(0.95, sum by (le) (rate(mcpgw_downstream_probe_duration_seconds_bucket` + byDownstream + `[$__rate_interval])))`, "p95"}}},
		}},
	}},
}

// json renders the dashboard as Grafana reads it. runbooks are linked below base.
func (d *dashboard) json() ([]byte, error) {
	const base = "https://github.com/mcpgw/mcpgw/blob/main/docs/runbooks/"
	source := map[string]any{"type": "prometheus", "uid": "${datasource}"}
	var panels []map[string]any
	id, y := 0, 0
	for _, r := range d.rows {
		id++
		panels = append(panels, map[string]any{"id": id, "type": "row", "title": r.title, "collapsed": false, "panels": []any{}, "gridPos": grid(0, y, 24, 1)})
		y++
		x, tallest := 0, 0
		for _, p := range r.panels {
			width, height := p.width, p.height
			if width == 0 {
				width = 8
			}
			if height == 0 {
				height = map[string]int{"stat": 4}[p.kind]
				if height == 0 {
					height = 8
				}
			}
			if x+width > 24 {
				x, y, tallest = 0, y+tallest, 0
			}
			id++
			panels = append(panels, p.json(id, grid(x, y, width, height), source, base))
			x, tallest = x+width, max(tallest, height)
		}
		y += tallest
	}
	variable := func(name, label string) map[string]any {
		q := "label_values(" + name + ")"
		return map[string]any{
			"name": map[string]string{"server": "downstream", "circuit": "circuit"}[label], "label": label, "type": "query", "datasource": source, "refresh": 2, "sort": 1,
			"query": map[string]any{"query": q, "refId": "V"}, "definition": q, "multi": true, "includeAll": true, "allValue": ".*",
			"current": map[string]any{"text": "All", "value": "$__all"},
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(map[string]any{
		"uid": d.uid, "title": d.title, "tags": []string{"mcpgw"}, "schemaVersion": 39, "version": 1, "editable": true, "refresh": "30s", "graphTooltip": 1,
		"time": map[string]any{"from": "now-6h", "to": "now"}, "timezone": "browser", "panels": panels,
		"links": []any{map[string]any{"type": "dashboards", "tags": []string{"mcpgw"}, "title": "mcpgw", "asDropdown": false, "includeVars": true, "keepTime": true}},
		"templating": map[string]any{"list": []any{
			map[string]any{"name": "datasource", "label": "source", "type": "datasource", "query": "prometheus", "current": map[string]any{}},
			variable("mcpgw_downstream_up, mcpgw_downstream_name", "server"),
			variable("mcpgw_circuit_breaker_state, mcpgw_circuit_name", "circuit"),
		}},
		"annotations": map[string]any{"list": []any{map[string]any{
			"name": "circuit opened", "enable": true, "datasource": source, "iconColor": "red", "titleFormat": "{{mcpgw_circuit_name}} opened",
			"expr": `sum by (mcpgw_circuit_name) (increase(mcpgw_circuit_breaker_transitions_total{mcpgw_circuit_to="open"}[1m])) > 0`,
		}}},
	})
	return b.Bytes(), err
}

func grid(x, y, w, h int) map[string]int { return map[string]int{"x": x, "y": y, "w": w, "h": h} }

func (p *panel) json(id int, pos map[string]int, source map[string]any, base string) map[string]any {
	targets := make([]any, 0, len(p.queries))
	for i, q := range p.queries {
		t := map[string]any{"refId": string(rune('A' + i)), "datasource": source, "expr": q.expr, "legendFormat": q.legend, "exemplar": p.kind == "timeseries"}
		if p.kind == "stat" {
			t["instant"] = true
		}
		if p.kind == "heatmap" {
			t["format"] = "heatmap"
		}
		targets = append(targets, t)
	}
	defaults := map[string]any{}
	if p.unit != "" {
		defaults["unit"] = p.unit
	}
	if p.kind == "state-timeline" {
		defaults["mappings"] = []any{map[string]any{"type": "value", "options": states(p.title == "Up")}}
	}
	out := map[string]any{
		"id": id, "type": p.kind, "title": p.title, "datasource": source, "gridPos": pos, "targets": targets,
		"fieldConfig": map[string]any{"defaults": defaults, "overrides": []any{}}, "options": map[string]any{},
	}
	if p.help != "" {
		out["description"] = p.help
	}
	if p.runbook != "" {
		out["links"] = []any{map[string]any{"title": "runbook", "url": base + p.runbook + ".md", "targetBlank": true}}
	}
	return out
}

func states(up bool) map[string]any {
	one := func(text, colour string) map[string]any { return map[string]any{"text": text, "color": colour} }
	if up {
		return map[string]any{"0": one("away", "red"), "1": one("up", "green")}
	}
	return map[string]any{"0": one("closed", "green"), "1": one("half open", "yellow"), "2": one("open", "red"), "3": one("isolated", "purple")}
}
