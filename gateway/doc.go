// Package gateway presents many downstream MCP servers as one.
package gateway
