package gateway

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/mcpgw/mcpgw/internal/wire"
)

const markedTool = `{"name":"x","inputSchema":{"type":"object","properties":{
	"region":{"type":"string","x-mcp-header":"Region"},
	"limit":{"type":"integer","x-mcp-header":"limit"},
	"deep":{"type":"object","properties":{"flag":{"type":"boolean","x-mcp-header":"Flag"}}},
	"plain":{"type":"string"}}}}`

func TestParamHeadersMirrorArguments(t *testing.T) {
	marks := paramHeadersOf(json.RawMessage(markedTool))
	if len(marks) != 3 {
		t.Fatalf("got %v", marks)
	}
	all := func(region, limit, flag string) http.Header {
		h := http.Header{}
		for k, v := range map[string]string{"Mcp-Param-Region": region, "Mcp-Param-Limit": limit, "Mcp-Param-Flag": flag} {
			if v != "" {
				h[k] = []string{v}
			}
		}
		return h
	}
	const args = `{"region":"eu","limit":42,"deep":{"flag":true},"plain":"p"}`
	for name, c := range map[string]struct {
		args   string
		header http.Header
		ok     bool
	}{
		"equal":                    {args, all("eu", "42", "true"), true},
		"equal as a number":        {args, all("eu", "42.0", "true"), true},
		"Base64":                   {`{"region":"grüße","limit":1,"deep":{"flag":false}}`, all("=?base64?Z3LDvMOfZQ==?=", "1", "false"), true},
		"broken Base64":            {args, all("=?base64?!!?=", "42", "true"), false},
		"looks like Base64":        {`{"region":"=?base64?x"}`, all("=?base64?x", "", ""), true},
		"absent":                   {`{}`, all("", "", ""), true},
		"null":                     {`{"region":null}`, all("", "", ""), true},
		"header without argument":  {`{}`, all("eu", "", ""), false},
		"header for null":          {`{"region":null}`, all("eu", "", ""), false},
		"argument without header":  {args, all("eu", "42", ""), false},
		"other text":               {args, all("us", "42", "true"), false},
		"other case":               {args, all("EU", "42", "true"), false},
		"other number":             {args, all("eu", "43", "true"), false},
		"no number":                {args, all("eu", "x", "true"), false},
		"fraction":                 {`{"limit":1.5}`, all("", "1.5", ""), false},
		"beyond what all can read": {`{"limit":9007199254740993}`, all("", "9007199254740993", ""), false},
		"sent twice":               {`{"region":"eu"}`, http.Header{"Mcp-Param-Region": {"eu", "eu"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkParamHeaders(marks, json.RawMessage(c.args), c.header)
			if (err == nil) != c.ok {
				t.Errorf("got %v", err)
			}
			if err != nil && err.Code != wire.CodeHeaderMismatch {
				t.Errorf("code %d", err.Code)
			}
		})
	}
	made := mirrorArguments(marks, json.RawMessage(`{"region":"grüße","limit":42,"deep":{"flag":true}}`))
	if err := checkParamHeaders(marks, json.RawMessage(`{"region":"grüße","limit":42,"deep":{"flag":true}}`), made); err != nil {
		t.Errorf("what the gateway makes does not pass its own check: %v", err)
	}
}
