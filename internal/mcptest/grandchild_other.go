//go:build !unix

package mcptest

import "errors"

const asGrandchild = "mcptest-grandchild"

func startGrandchild(bool) (int, error) {
	return 0, errors.New("grandchildren are for Unix")
}

func runGrandchild() int { return 1 }
