package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace puts content into the file in place of was, in one step: whoever reads the file sees the old or the new content, never a part.
// Links are followed, permissions and (where allowed) the owner kept. A nil was means that there is no such file: one is made, readable
// only by its owner. If the file does not hold what was read, somebody else has changed it, and it is left alone.
func Replace(path string, was, content []byte) (err error) {
	if was == nil {
		return create(path, content)
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(target)
	if err != nil {
		return err
	}
	if now, err := os.ReadFile(target); err != nil {
		return err
	} else if !bytes.Equal(now, was) {
		return fmt.Errorf("%s has been changed by another program meanwhile: nothing was written, try again", path)
	}
	// A file that must not be written is not replaced either, although the folder would allow it.
	if f, err := os.OpenFile(target, os.O_WRONLY, 0); err != nil {
		return err
	} else if err := f.Close(); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(target), "."+filepath.Base(target)+".*")
	if err != nil {
		return fmt.Errorf("writing beside %s: %w", target, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(os.Remove(tmp.Name())))
		}
	}()
	if _, err := tmp.Write(content); err != nil {
		return errors.Join(err, tmp.Close())
	}
	keepOwner(tmp, info)
	if err := errors.Join(tmp.Chmod(info.Mode().Perm()), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), target)
}

func create(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the file is the one that the user names
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: it is never overwritten", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
