package mcptest

import (
	"bytes"
	"fmt"
	"maps"
	"strings"
)

// LongLine is the size of the messages of the tool line and of the list "line".
const LongLine = 16 << 20

// Hostile returns a script whose tool good echoes its arguments, while the others answer what no client should be made to read:
//
//	line       a message of 16 MiB
//	utf8       invalid UTF-8 inside a string
//	duplicate  an envelope with two results and two ids
//	case       an envelope with Result instead of result
//	wrong_id   the answer to another request, then its own
//	twice      its answer two times
//	junk       lines that are not JSON, then its answer
//	deep       a result nested 100,000 deep
//	number     a result that is no object
//	surrogate  a lone surrogate in a string, which is legal
//	both       an envelope with a result and an error
//	flood      progress without end, until it is cancelled
//	spam       10,000 log messages, then its answer
//	ask        a request of an unknown method, then its answer
//	never      nothing, until it is cancelled
//
// List chooses how tools/list is answered: "" with well-formed tools; "schemas" with some more whose schemas are absurd; "line" as the tool
// line does; "utf8", "duplicate" with one such item among good ones; "cursor" with a cursor that never ends; "clash" with two tools of one
// name; "never".
func Hostile(list string) Script {
	s := Script{
		"tools/list": hostileList(list),
		"tools/call good": func(x *Exchange) {
			var args string
			if i := bytes.Index(x.Params, []byte(`"arguments":`)); i >= 0 {
				args = fmt.Sprintf(`,"_meta":{"mcptest/params":%s}`, x.Params)
			}
			x.Result(`{"content":[{"type":"text","text":"good"}]` + args + `}`)
		},
	}
	maps.Copy(s, hostileTools)
	return s
}

const fine = `{"content":[{"type":"text","text":"late but well"}]}`

var hostileTools = Script{
	"tools/call line": func(x *Exchange) {
		x.Result(`{"content":[{"type":"text","text":"` + strings.Repeat("x", LongLine) + `"}]}`)
	},
	"tools/call utf8": func(x *Exchange) {
		x.Result("{\"content\":[{\"type\":\"text\",\"text\":\"\xff\xc0\xaf\"}]}")
	},
	"tools/call duplicate": Raw(`{"jsonrpc":"2.0","id":$ID,"id":4711,"result":{"content":[]},"result":` + fine + `}`),
	"tools/call case":      Raw(`{"jsonrpc":"2.0","id":$ID,"Result":` + fine + `}`),
	"tools/call wrong_id": func(x *Exchange) {
		x.Send(`{"jsonrpc":"2.0","id":"nobody asked","result":` + fine + `}`)
		x.Result(fine)
	},
	"tools/call twice": func(x *Exchange) {
		x.Result(fine)
		x.Result(fine)
	},
	"tools/call junk": func(x *Exchange) {
		x.Send("DEBUG: connecting to the database")
		x.Send("{not json}")
		x.Send("\x00\x01\x02")
		x.Result(fine)
	},
	"tools/call deep": func(x *Exchange) {
		const deep = 100_000
		x.Result(`{"content":[],"structuredContent":` + strings.Repeat(`{"a":`, deep) + `1` + strings.Repeat(`}`, deep) + `}`)
	},
	"tools/call number":    Result(`42`),
	"tools/call surrogate": Result(`{"content":[{"type":"text","text":"\ud800 alone"}]}`),
	"tools/call both":      Raw(`{"jsonrpc":"2.0","id":$ID,"result":` + fine + `,"error":{"code":-32000,"message":"or not"}}`),
	"tools/call flood": func(x *Exchange) {
		for i := 1; x.Err() == nil; i++ {
			if !x.Send(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d}}`, orZero(x.Token()), i)) {
				return
			}
		}
	},
	"tools/call spam": func(x *Exchange) {
		for i := range 10_000 {
			if !x.Send(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"spam %d"}}`, i)) {
				return
			}
		}
		x.Result(fine)
	},
	"tools/call ask": func(x *Exchange) {
		x.Send(`{"jsonrpc":"2.0","id":"question","method":"mcptest/unknown","params":{}}`)
		x.Result(fine)
	},
	"tools/call never": Never,
}

func orZero(token []byte) []byte {
	if token == nil {
		return []byte("0")
	}
	return token
}

// hostileTool is a well-formed tool.
func hostileTool(name string) string {
	return fmt.Sprintf(`{"name":%q,"description":"A tool of a hostile server.","inputSchema":{"type":"object"}}`, name)
}

// HostileNames are the tools that a hostile script lists, sorted.
var HostileNames = []string{
	"ask", "both", "case", "deep", "duplicate", "flood", "good", "junk", "line", "never", "number", "spam", "surrogate", "twice", "utf8", "wrong_id",
}

// BadSchemas are the tools that the list "schemas" adds: most are no tools at all.
var BadSchemas = []string{
	`{"name":"schema_missing"}`,
	`{"name":"schema_null","inputSchema":null}`,
	`{"name":"schema_true","inputSchema":true}`,
	`{"name":"schema_string","inputSchema":"object"}`,
	`{"name":"schema_array","inputSchema":{"type":"array"}}`,
	`{"name":"schema_types","inputSchema":{"type":["object","null"]}}`,
	`{"name":"schema_ref","inputSchema":{"type":"object","properties":{"a":{"$ref":"https://schemas.example.net/none.json"}}}}`,
	`{"name":"schema_loop","inputSchema":{"type":"object","properties":{"a":{"$ref":"#/properties/a"}}}}`,
	`{"name":"schema_regexp","inputSchema":{"type":"object","properties":{"a":{"type":"string","pattern":"(?<!x)("}}}}`,
	`{"name":"schema_header","inputSchema":{"type":"object","properties":{"a":{"type":"string","x-mcp-header":"Bad Header\r\nX-Evil: 1"}}}}`,
	`{"name":"schema_output","inputSchema":{"type":"object"},"outputSchema":7}`,
	`{"name":"","inputSchema":{"type":"object"}}`,
	`{"inputSchema":{"type":"object"}}`,
	`{"name":42,"inputSchema":{"type":"object"}}`,
	`{"name":"name with spaces/and\nlines","inputSchema":{"type":"object"}}`,
	`null`, `"tool"`, `[]`,
}

func hostileList(kind string) Answer {
	var tools []string
	for _, n := range HostileNames {
		tools = append(tools, hostileTool(n))
	}
	list := func(more ...string) string { return `{"tools":[` + strings.Join(append(more, tools...), ",") + `]}` }
	switch kind {
	case "":
		return Result(list())
	case "schemas":
		return Result(list(BadSchemas...))
	case "line":
		return func(x *Exchange) {
			x.Result(list(`{"name":"long","inputSchema":{"type":"object"},"description":"` + strings.Repeat("x", LongLine) + `"}`))
		}
	case "utf8":
		return Result(list("{\"name\":\"broken\",\"inputSchema\":{\"type\":\"object\"},\"description\":\"\xff\xfe\"}"))
	case "duplicate":
		return Result(list(`{"name":"first","name":"second","inputSchema":{"type":"object"}}`))
	case "clash":
		return Result(list(hostileTool("good"), hostileTool("GOOD")))
	case "cursor":
		return Result(`{"tools":[` + strings.Join(tools, ",") + `],"nextCursor":"again"}`)
	case "never":
		return Never
	}
	return func(x *Exchange) { x.Error(fmt.Sprintf(`{"code":-32603,"message":"mcptest has no list %s"}`, kind)) }
}
