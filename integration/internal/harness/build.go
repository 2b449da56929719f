package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Packages that the tests start as programs.
const (
	Gateway    = "github.com/mcpgw/mcpgw/cmd/mcpgw"
	TestServer = "github.com/mcpgw/mcpgw/integration/testserver"
	Everything = "github.com/modelcontextprotocol/go-sdk/conformance/everything-server"
)

// Root returns the folder of the module, which is the repository.
func Root(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("asking go for the module: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	if mod == "" || mod == os.DevNull {
		return "", errors.New("run this inside the repository of mcpgw")
	}
	return filepath.Dir(mod), nil
}

// Build compiles the package into dir, with further flags of go build, and returns the path of the program.
func Build(ctx context.Context, dir, pkg string, flags ...string) (string, error) {
	root, err := Root(ctx)
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, filepath.Base(pkg))
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-o", bin}, flags...), pkg)...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", pkg, err, out)
	}
	return bin, nil
}

// Server is a running program that listens at an address.
type Server struct {
	*Process

	Addr string // HOST:PORT
}

// StartHTTP starts the program and waits until it listens at addr, which the caller put into its arguments.
func StartHTTP(ctx context.Context, s Spec, addr string) (*Server, error) {
	p, err := Start(ctx, s)
	if err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := p.WaitListening(wait, addr); err != nil {
		p.Kill()
		return nil, err
	}
	return &Server{Process: p, Addr: addr}, nil
}

// StartGateway starts bin with the configuration, a gateway.yaml whose every LISTEN is replaced by a free address, and waits until
// it listens. The file stays in dir, where a test can change it. Env adds to an environment of PATH and HOME.
func StartGateway(ctx context.Context, bin, dir, yaml string, env ...string) (*Server, error) {
	addr, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "gateway.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(yaml, "LISTEN", addr)), 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration: %w", err)
	}
	return StartHTTP(ctx, Spec{
		Name: "mcpgw", Path: bin, Args: []string{"serve", "--config", file},
		Env: append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}, env...),
	}, addr)
}
