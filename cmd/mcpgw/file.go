package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mcpgw/mcpgw/internal/config"
)

// find returns the path of the configuration file.
func (a *app) find() (string, error) {
	if a.configPath != "" {
		return a.configPath, nil
	}
	places := []string{"gateway.yaml"}
	if dir, err := os.UserConfigDir(); err == nil {
		places = append(places, filepath.Join(dir, "mcpgw", "gateway.yaml"))
	}
	for _, p := range places {
		// A file that is there and cannot be read is the one that is meant: reading it says what is wrong.
		if _, err := os.Stat(p); !errors.Is(err, fs.ErrNotExist) {
			return p, nil
		}
	}
	for i, p := range places {
		if abs, err := filepath.Abs(p); err == nil {
			places[i] = abs
		}
	}
	return "", &exitError{exitConfig, fmt.Errorf("no configuration file. Looked for:\n  %s\nmcpgw init writes one; --config names another one", strings.Join(places, "\n  "))}
}

// load finds and reads the configuration. It returns the path even if the file is not valid, and the content it was read from.
func (a *app) load() (path string, data []byte, file *config.File, err error) {
	path, err = a.find()
	if err != nil {
		return "", nil, nil, err
	}
	file, data, err = config.Load(path)
	if err != nil {
		return path, nil, nil, &exitError{exitConfig, err}
	}
	return path, data, file, nil
}
