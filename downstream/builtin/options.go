package builtin

import (
	"github.com/mcpgw/mcpgw/downstream/builtin/llm"
)

// LLM is the section of the preset llm in gateway.yaml.
type LLM = llm.Options

// LLMFallback is an entry of llm.fallbacks.
type LLMFallback = llm.Fallback

// DefaultLLM returns an LLM with every default filled in.
func DefaultLLM() LLM { return llm.DefaultOptions() }

// DefaultLLMFallback returns an LLMFallback with every default filled in.
func DefaultLLMFallback() LLMFallback { return llm.DefaultFallback() }
