// The testserver is a real MCP server over stdio that misbehaves on request; -help says how.
package main

import (
	"os"

	"github.com/mcpgw/mcpgw/internal/mcptest"
)

func main() { os.Exit(mcptest.Run(os.Args[1:])) }
