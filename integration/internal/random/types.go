package random

import (
	"encoding/base64"
	"strconv"
	"strings"
)

// The types of the specification (schema.ts of both revisions), as what makes one. Members that both revisions have in the same way stand
// without a condition.

func (r *maker) meta() string {
	return r.obj(field{"vendor.example/kept", (*maker).value, 60}, field{"traceparent", text(`"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"`), 10})
}

func (r *maker) role() string { return pick(r, `"user"`, `"assistant"`) }

func (r *maker) uri() string {
	return `"` + pick(r, "https://example.net/", "file:///a/b", "urn:isbn:", "x:", `file:\/\/\/etc\/`, "mcpgw://nobody/") + pick(r, "", "a", "caf%C3%A9", "q?x=1&y=2#f", "1") + `"`
}

func (r *maker) base64() string {
	b := make([]byte, r.IntN(30))
	for i := range b {
		b[i] = byte(r.IntN(256))
	}
	return `"` + strings.ReplaceAll(base64.StdEncoding.EncodeToString(b), "/", pick(r, "/", `\/`)) + `"`
}

func (r *maker) annotations() string {
	return r.obj(may("audience", func(r *maker) string { return r.list(r.IntN(3), (*maker).role) }), may("priority", (*maker).between),
		may("lastModified", text(`"2026-01-12T15:00:58Z"`)))
}

func (r *maker) icons() string {
	return r.list(r.IntN(3), func(r *maker) string {
		return r.obj(must("src", (*maker).uri), may("mimeType", (*maker).str), may("sizes", func(r *maker) string { return r.list(r.IntN(3), (*maker).str) }),
			may("theme", func(r *maker) string { return pick(r, `"light"`, `"dark"`) }))
	})
}

func (r *maker) implementation() string {
	return r.obj(must("name", (*maker).str), may("title", (*maker).str), must("version", (*maker).str), may("description", (*maker).str), may("websiteUrl", (*maker).uri),
		may("icons", (*maker).icons))
}

// loose is an object of any kind.
func (r *maker) loose() string { return r.object(r.IntN(3)) }

func (r *maker) block() string {
	note, meta := may("annotations", (*maker).annotations), may("_meta", (*maker).meta)
	switch r.IntN(6) {
	case 0:
		return r.obj(must("type", text(`"image"`)), must("data", (*maker).base64), must("mimeType", (*maker).str), note, meta)
	case 1:
		return r.obj(must("type", text(`"audio"`)), must("data", (*maker).base64), must("mimeType", (*maker).str), note, meta)
	case 2:
		return r.obj(append(r.resourceFields(), must("type", text(`"resource_link"`)), must("uri", (*maker).uri))...)
	case 3:
		return r.obj(must("type", text(`"resource"`)), must("resource", (*maker).contents), note, meta)
	}
	return r.obj(must("type", text(`"text"`)), must("text", (*maker).str), note, meta)
}

func (r *maker) blocks() string { return r.list(r.IntN(4), (*maker).block) }

func (r *maker) contents() string {
	what := must("text", (*maker).str)
	if r.chance(30) {
		what = must("blob", (*maker).base64)
	}
	return r.obj(must("uri", (*maker).uri), may("mimeType", (*maker).str), what, may("_meta", (*maker).meta))
}

// result is a result with its own members and those that every result has.
func (r *maker) result(fields ...field) string {
	fields = append(fields, may("_meta", (*maker).resultMeta))
	if r.modern {
		fields = append(fields, must("resultType", text(`"complete"`)))
	}
	return r.obj(fields...)
}

func (r *maker) resultMeta() string {
	if !r.modern {
		return r.meta()
	}
	return r.obj(may("io.modelcontextprotocol/serverInfo", (*maker).implementation), may("vendor.example/kept", (*maker).value))
}

func (r *maker) callResult() string {
	structured := may("structuredContent", (*maker).loose)
	if r.modern {
		structured = may("structuredContent", (*maker).value)
	}
	return r.result(must("content", (*maker).blocks), structured, may("isError", (*maker).boolean))
}

func (r *maker) promptResult() string {
	return r.result(may("description", (*maker).str), must("messages", func(r *maker) string {
		return r.list(r.IntN(4), func(r *maker) string { return r.obj(must("role", (*maker).role), must("content", (*maker).block)) })
	}))
}

func (r *maker) readResult(uri string) string {
	fields := []field{must("contents", func(r *maker) string {
		return r.list(r.IntN(3), func(r *maker) string {
			if r.chance(50) {
				return r.obj(must("uri", text(uri)), must("text", (*maker).str))
			}
			return r.contents()
		})
	})}
	if r.modern {
		fields = append(fields, must("ttlMs", (*maker).ttl), must("cacheScope", func(r *maker) string { return pick(r, `"public"`, `"private"`) }))
	}
	return r.result(fields...)
}

func (r *maker) ttl() string { return pick(r, "0", "1000", "60000") }

func (r *maker) completeResult() string {
	return r.result(must("completion", func(r *maker) string {
		return r.obj(must("values", func(r *maker) string { return r.list(r.IntN(6), (*maker).str) }), may("total", (*maker).integer), may("hasMore", (*maker).boolean))
	}))
}

// rpcError is an error that means nothing to the gateway, except that a resource is not there.
func (r *maker) rpcError() string {
	return r.obj(must("code", func(r *maker) string {
		return pick(r, "-32000", "-32019", "-32600", "-32602", "-32603", "-32700", "0", "1", "42", "-1", "404", "2147483647")
	}),
		must("message", (*maker).str), may("data", (*maker).value))
}

// Items of lists. Their names and URIs are the caller's.

func (r *maker) tool(name string) string {
	schema := func(r *maker) string {
		return r.obj(must("type", text(`"object"`)), may("$schema", text(`"https://json-schema.org/draft/2020-12/schema"`)),
			may("properties", func(r *maker) string { return r.mapOf((*maker).loose) }), may("required", func(r *maker) string { return r.list(r.IntN(3), (*maker).word) }))
	}
	fields := []field{
		must("name", text(name)), may("title", (*maker).str), may("description", (*maker).str), must("inputSchema", schema), may("outputSchema", schema), may("icons", (*maker).icons),
		may("annotations", func(r *maker) string {
			return r.obj(may("title", (*maker).str), may("readOnlyHint", (*maker).boolean), may("destructiveHint", (*maker).boolean), may("idempotentHint", (*maker).boolean),
				may("openWorldHint", (*maker).boolean))
		}), may("_meta", (*maker).meta),
	}
	if !r.modern {
		fields = append(fields, may("execution", func(r *maker) string { return r.obj(may("taskSupport", text(`"optional"`))) }))
	}
	return r.obj(fields...)
}

func (r *maker) prompt(name string) string {
	return r.obj(must("name", text(name)), may("title", (*maker).str), may("description", (*maker).str), may("icons", (*maker).icons), may("_meta", (*maker).meta),
		may("arguments", func(r *maker) string {
			return r.list(r.IntN(4), func(r *maker) string {
				return r.obj(must("name", (*maker).str), may("title", (*maker).str), may("description", (*maker).str), may("required", (*maker).boolean))
			})
		}))
}

func (r *maker) resourceFields() []field {
	return []field{
		must("name", (*maker).str), may("title", (*maker).str), may("description", (*maker).str), may("mimeType", (*maker).str),
		may("annotations", (*maker).annotations), may("size", (*maker).integer), may("icons", (*maker).icons), may("_meta", (*maker).meta),
	}
}

func (r *maker) resource(uri string) string {
	return r.obj(append(r.resourceFields(), must("uri", text(uri)))...)
}

func (r *maker) template(uri string) string {
	return r.obj(append(r.resourceFields()[:5], must("uriTemplate", text(uri)), may("_meta", (*maker).meta))...)
}

// What a server asks, and what a client answers.

func (r *maker) formParams() string {
	return r.obj(may("mode", text(`"form"`)), must("message", (*maker).str), must("requestedSchema", func(r *maker) string {
		return r.obj(must("type", text(`"object"`)), must("properties", func(r *maker) string { return r.mapOf((*maker).primitive) }),
			may("required", func(r *maker) string { return r.list(r.IntN(3), (*maker).word) }))
	}))
}

func (r *maker) primitive() string {
	title, about := may("title", (*maker).str), may("description", (*maker).str)
	switch r.IntN(4) {
	case 0:
		return r.obj(must("type", text(`"boolean"`)), title, about, may("default", (*maker).boolean))
	case 1:
		return r.obj(must("type", func(r *maker) string { return pick(r, `"number"`, `"integer"`) }), title, about, may("minimum", (*maker).integer), may("maximum", (*maker).integer))
	case 2:
		return r.obj(must("type", text(`"string"`)), must("enum", func(r *maker) string { return r.list(1+r.IntN(3), (*maker).str) }), title, about)
	}
	return r.obj(must("type", text(`"string"`)), title, about, may("minLength", text("0")), may("format", text(`"email"`)), may("default", (*maker).str))
}

func (r *maker) formAnswer() string {
	return r.obj(must("action", func(r *maker) string { return pick(r, `"accept"`, `"decline"`, `"cancel"`) }), may("content", func(r *maker) string {
		return r.mapOf(func(r *maker) string { return pick(r, r.str(), r.integer(), r.boolean(), r.list(2, (*maker).str)) })
	}))
}

func (r *maker) samplingParams() string {
	return r.obj(must("messages", func(r *maker) string { return r.list(1+r.IntN(2), (*maker).samplingMessage) }), must("maxTokens", (*maker).integer), may("systemPrompt", (*maker).str),
		may("temperature", (*maker).number), may("stopSequences", func(r *maker) string { return r.list(r.IntN(3), (*maker).str) }), may("metadata", (*maker).loose),
		may("modelPreferences", func(r *maker) string {
			return r.obj(may("costPriority", (*maker).between), may("speedPriority", (*maker).between))
		}))
}

func (r *maker) samplingMessage() string {
	return r.obj(must("role", (*maker).role), must("content", (*maker).samplingBlock), may("_meta", (*maker).meta))
}

func (r *maker) samplingBlock() string {
	return r.obj(must("type", text(`"text"`)), must("text", (*maker).str), may("_meta", (*maker).meta))
}

func (r *maker) samplingAnswer() string {
	return r.obj(must("role", (*maker).role), must("content", (*maker).samplingBlock), must("model", (*maker).str), may("stopReason", (*maker).str))
}

func (r *maker) rootsParams() string { return r.obj(may("_meta", (*maker).meta)) }

func (r *maker) rootsAnswer() string {
	return r.obj(must("roots", func(r *maker) string {
		return r.list(r.IntN(3), func(r *maker) string {
			return r.obj(must("uri", text(`"file:///`+strconv.Itoa(r.IntN(100))+`"`)), may("name", (*maker).str), may("_meta", (*maker).meta))
		})
	}))
}

// question is something that a server can ask, and a valid answer.
type question struct{ method, params, answer string }

func (r *maker) question() question {
	switch r.IntN(3) {
	case 0:
		return question{"elicitation/create", r.formParams(), r.formAnswer()}
	case 1:
		return question{"sampling/createMessage", r.samplingParams(), r.samplingAnswer()}
	}
	return question{"roots/list", r.rootsParams(), r.rootsAnswer()}
}

// task is a task of revision 2025-11-25.
func (r *maker) task(id string) []field {
	return []field{
		must("taskId", text(id)), must("status", func(r *maker) string { return pick(r, `"working"`, `"completed"`, `"failed"`, `"cancelled"`) }), may("statusMessage", (*maker).str),
		must("createdAt", text(`"2026-01-12T15:00:58Z"`)), must("lastUpdatedAt", text(`"2026-01-12T15:00:59Z"`)), must("ttl", func(r *maker) string { return pick(r, "null", "0", "60000", "1e3") }),
		may("pollInterval", (*maker).integer),
	}
}
