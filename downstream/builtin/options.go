package builtin

import (
	"github.com/mcpgw/mcpgw/downstream/builtin/idrac"
	"github.com/mcpgw/mcpgw/downstream/builtin/llm"
	"github.com/mcpgw/mcpgw/downstream/builtin/rest"
)

// LLM is the section of the preset llm in gateway.yaml.
type LLM = llm.Options

// LLMFallback is an entry of llm.fallbacks.
type LLMFallback = llm.Fallback

// DefaultLLM returns an LLM with every default filled in.
func DefaultLLM() LLM { return llm.DefaultOptions() }

// DefaultLLMFallback returns an LLMFallback with every default filled in.
func DefaultLLMFallback() LLMFallback { return llm.DefaultFallback() }

// IDRAC is the section of the preset idrac in gateway.yaml.
type IDRAC = idrac.Options

// DefaultIDRAC returns an IDRAC with every default filled in.
func DefaultIDRAC() IDRAC { return idrac.DefaultOptions() }

// HTTP is the section of the preset http in gateway.yaml.
type HTTP = rest.Options

// HTTPTool is an entry of http.tools.
type HTTPTool = rest.Tool

// HTTPArg is one of the args of an HTTPTool.
type HTTPArg = rest.Arg

// HTTPAuth says how a token is sent.
type HTTPAuth = rest.Auth

// OpenAPI is the section of the preset openapi in gateway.yaml.
type OpenAPI = rest.OpenAPI

// DefaultHTTP returns an HTTP with every default filled in.
func DefaultHTTP() HTTP { return HTTP{Auth: rest.DefaultAuth()} }

// DefaultHTTPTool returns an HTTPTool with every default filled in.
func DefaultHTTPTool() HTTPTool { return rest.DefaultTool() }

// DefaultHTTPArg returns an HTTPArg with every default filled in.
func DefaultHTTPArg() HTTPArg { return rest.DefaultArg() }

// DefaultOpenAPI returns an OpenAPI with every default filled in.
func DefaultOpenAPI() OpenAPI { return rest.DefaultOpenAPI() }
