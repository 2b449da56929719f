//go:build !race

package integration

var buildFlags, environment []string
