package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// lookPath finds a program in the PATH that the program itself will see, which need not be the gateway's. A name with a slash is
// relative to dir.
func lookPath(name string, env []string, dir string) (string, error) {
	if dir != "" {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return "", fmt.Errorf("its working directory %q is not there", dir)
		}
	}
	if strings.ContainsAny(name, "/"+string(filepath.Separator)) {
		path := name
		if !filepath.IsAbs(path) && dir != "" {
			path = filepath.Join(dir, path)
		}
		path, err := filepath.Abs(path)
		if err != nil {
			return "", err
		}
		return executable(path)
	}
	var denied error
	for _, dir := range filepath.SplitList(getenv(env, "PATH")) {
		if !filepath.IsAbs(dir) {
			continue // a program that depends on where the gateway was started is a trap
		}
		path, err := executable(filepath.Join(dir, name))
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && denied == nil {
			denied = err
		}
	}
	if denied != nil {
		return "", denied
	}
	return "", fmt.Errorf("no such program in PATH (%s): install it or write its full path", getenv(env, "PATH"))
}

// executable returns path if the file there can be run. On Windows ".exe" may be left out.
func executable(path string) (string, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && runtime.GOOS == "windows" && filepath.Ext(path) == "":
		return executable(path + ".exe")
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("no such file: %w", fs.ErrNotExist)
	case err != nil:
		return "", err
	case info.IsDir():
		return "", fmt.Errorf("%s is a directory", path)
	case runtime.GOOS != "windows" && info.Mode()&0o111 == 0:
		return "", fmt.Errorf("%s is not executable", path)
	}
	return path, nil
}
