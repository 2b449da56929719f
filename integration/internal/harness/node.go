package harness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

//go:embed node/package.json node/package-lock.json
var nodeFiles embed.FS

// Node is a folder of programs that need Node: the conformance suite, the Inspector and servers of others, with a Node new enough
// for all of them. The versions are fixed by node/package-lock.json.
type Node struct {
	dir string
	bin string // folder that holds node
}

// Cache returns the folder for tools that are too large to be fetched each time: MCPGW_CACHE, or .cache in the repository, which
// git ignores.
func Cache(ctx context.Context) (string, error) {
	dir := os.Getenv("MCPGW_CACHE")
	if dir == "" {
		root, err := Root(ctx)
		if err != nil {
			return "", err
		}
		dir = filepath.Join(root, ".cache")
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("making the cache folder: %w", err)
	}
	return filepath.Abs(dir)
}

// InstallNode installs the programs with npm into the cache folder unless they are there. It needs npm in PATH and no particular
// Node. No installation script of a package is run.
func InstallNode(ctx context.Context) (*Node, error) {
	h := sha256.New()
	files := map[string][]byte{}
	for _, name := range []string{"package.json", "package-lock.json"} {
		b, err := nodeFiles.ReadFile("node/" + name)
		if err != nil {
			return nil, err
		}
		files[name] = b
		h.Write(b)
	}
	dir, err := installNPM(ctx, "node-"+hex.EncodeToString(h.Sum(nil))[:12], files, "ci", "--ignore-scripts")
	if err != nil {
		return nil, err
	}
	arch := map[string]string{"amd64": "x64"}[runtime.GOARCH]
	if arch == "" {
		arch = runtime.GOARCH
	}
	n := &Node{dir: dir, bin: filepath.Join(dir, "node_modules", "node-linux-"+arch, "bin")}
	if _, err := os.Stat(filepath.Join(n.bin, "node")); err != nil {
		return nil, fmt.Errorf("no Node for %s/%s in the packages: %w", runtime.GOOS, runtime.GOARCH, err)
	}
	return n, nil
}

// Install adds one more package, NAME@VERSION, in a folder of its own and returns the path of its program. Installation scripts
// run if scripts is true.
func (n *Node) Install(ctx context.Context, pkg, program string, scripts bool) (string, error) {
	sum := sha256.Sum256([]byte(pkg))
	args := []string{"install", "--no-save", pkg}
	if !scripts {
		args = append(args, "--ignore-scripts")
	}
	dir, err := installNPM(ctx, program+"-"+hex.EncodeToString(sum[:])[:12], map[string][]byte{"package.json": []byte(`{"private":true}`)}, args...)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "node_modules", ".bin", program), nil
}

// InstallFiles installs what a package.json and its lock file name, for scripts of ours, and returns the folder that holds node_modules.
// No installation script of a package is run.
func InstallFiles(ctx context.Context, name string, manifest, lock []byte) (string, error) {
	sum := sha256.Sum256(append(append([]byte(nil), manifest...), lock...))
	return installNPM(ctx, name+"-"+hex.EncodeToString(sum[:])[:12], map[string][]byte{"package.json": manifest, "package-lock.json": lock}, "ci", "--ignore-scripts")
}

// installNPM runs npm in the folder name of the cache and leaves a mark when all went well, so that the next run can reuse it. A
// lock keeps two runs apart.
func installNPM(ctx context.Context, name string, files map[string][]byte, args ...string) (string, error) {
	cache, err := Cache(ctx)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, name)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("making %s: %w", dir, err)
	}
	lock, err := os.OpenFile(filepath.Clean(dir+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", fmt.Errorf("opening the lock: %w", err)
	}
	defer lock.Close() //nolint:errcheck // nothing was written
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("waiting for another installation: %w", err)
	}
	mark := filepath.Join(dir, "complete")
	if _, err := os.Stat(mark); err == nil {
		return dir, nil
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return "", fmt.Errorf("writing %s: %w", name, err)
		}
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", errors.New("npm is not in PATH: install Node (any version since 20) with npm")
	}
	cmd := exec.CommandContext(ctx, npm, append(args, "--no-audit", "--no-fund", "--loglevel=error")...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		// npm's messages name the registry, which is nobody's business but the machine's.
		lines := bytes.Count(out, []byte("\n"))
		return "", fmt.Errorf("npm %s failed in %s (%d lines of output, run it there to see them): %w", args[0], dir, lines, err)
	}
	return dir, os.WriteFile(mark, nil, 0o600)
}

// Command returns a command that runs one of the installed programs with an environment of PATH, HOME (a folder of the caller's, so
// that no settings of the user are read) and env.
func (n *Node) Command(ctx context.Context, home string, env []string, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, n.Path(program), args...)
	cmd.Env = append([]string{"PATH=" + n.PATH(), "HOME=" + home, "NO_COLOR=1", "CI=true"}, env...)
	cmd.Dir = home
	return cmd
}

// Path returns the path of an installed program; an absolute path is returned as it is.
func (n *Node) Path(program string) string {
	if filepath.IsAbs(program) {
		return program
	}
	return filepath.Join(n.dir, "node_modules", ".bin", program)
}

// Program returns the path of node itself.
func (n *Node) Program() string { return filepath.Join(n.bin, "node") }

// PATH returns a search path that finds the installed Node first.
func (n *Node) PATH() string { return n.bin + string(os.PathListSeparator) + os.Getenv("PATH") }
