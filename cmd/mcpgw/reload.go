package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/mcpgw/mcpgw/gateway"
	"github.com/mcpgw/mcpgw/internal/config"
)

// reloader takes over changes of the configuration file. One goroutine, that of run, does all of it: one reload at a time, whether a
// signal, a request or a change of the file asks for it.
//
// The file is read every interval and compared by content. Watching it by inode or folder instead would miss what matters most: a
// mounted ConfigMap is a symbolic link to a link that Kubernetes exchanges, editors replace files by renaming, and network file
// systems do not tell of changes at all. Reading a few kilobytes costs nothing.
type reloader struct {
	path  string
	log   *slog.Logger
	apply func(context.Context, *config.File) (gateway.Change, error) // all or nothing

	interval time.Duration // between looks at the file
	settle   time.Duration // how long new content must stay the same, since it may be half written
	retry    time.Duration // after which a file with faults is read once more before they are reported

	requests chan chan error
	ended    chan struct{}

	// What follows belongs to run's goroutine.
	applied imprint // what is in force
	judged  imprint // what a look has dealt with, whatever came of it
	pending imprint // what the last look saw for the first time
	retried bool    // pending has been read again after it had faults
}

// imprint tells one content of a file from another, or from a reason why it cannot be read.
type imprint string

func imprintOf(data []byte, err error) imprint {
	if data == nil && err != nil {
		return imprint("unreadable: " + err.Error())
	}
	sum := sha256.Sum256(data)
	return imprint(hex.EncodeToString(sum[:]))
}

// newReloader returns a reloader for a file whose content data is in force.
func newReloader(path string, data []byte, log *slog.Logger, apply func(context.Context, *config.File) (gateway.Change, error)) *reloader {
	now := imprintOf(data, nil)
	return &reloader{
		path: path, log: log, apply: apply, interval: 2 * time.Second, settle: 250 * time.Millisecond, retry: time.Second,
		requests: make(chan chan error), ended: make(chan struct{}), applied: now, judged: now,
	}
}

// request reloads and returns what is wrong, if anything is. It may be called by any goroutine, and waits for run.
func (r *reloader) request(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case r.requests <- answer:
		return <-answer
	case <-r.ended:
		return errors.New("the gateway is shutting down")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run reloads until ctx is done. hup may be nil.
func (r *reloader) run(ctx context.Context, hup <-chan os.Signal) {
	defer close(r.ended)
	look := time.NewTimer(r.interval)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			_ = r.reload(ctx, "SIGHUP") // it is logged
		case answer := <-r.requests:
			answer <- r.reload(ctx, "POST /-/reload")
		case <-look.C:
			look.Reset(r.look(ctx))
		}
	}
}

// reload takes over what the file says now.
func (r *reloader) reload(ctx context.Context, trigger string) error {
	file, data, err := config.Load(r.path)
	now := imprintOf(data, err)
	r.judged = now
	if now == r.applied {
		r.log.InfoContext(ctx, "configuration unchanged", "trigger", trigger)
		return nil
	}
	if err == nil {
		err = r.use(ctx, trigger, file, now)
	}
	if err != nil {
		r.report(ctx, trigger, err)
	}
	return err
}

// look takes over what the file says if it changed. It returns the time until the next look.
func (r *reloader) look(ctx context.Context) time.Duration {
	const trigger = "file change"
	data, err := os.ReadFile(r.path)
	switch now := imprintOf(data, err); {
	case now == r.judged || now == r.applied:
		r.judged, r.pending = now, ""
		return r.interval
	case now != r.pending:
		r.pending, r.retried = now, false
		return r.settle
	}
	var file *config.File
	if err == nil {
		file, err = config.Parse(r.path, data, os.LookupEnv)
	} else {
		err = fmt.Errorf("reading the configuration: %w", err)
	}
	if err != nil && !r.retried {
		r.retried = true
		return r.retry
	}
	if err == nil {
		err = r.use(ctx, trigger, file, r.pending)
	}
	if err != nil {
		r.report(ctx, trigger, err)
	}
	r.judged, r.pending = r.pending, ""
	return r.interval
}

// use puts file into force and tells what changed.
func (r *reloader) use(ctx context.Context, trigger string, file *config.File, now imprint) error {
	change, err := r.apply(ctx, file)
	if err != nil {
		return err
	}
	r.applied = now
	r.log.InfoContext(ctx, "configuration reloaded", "trigger", trigger, "added", change.Added, "removed", change.Removed,
		"replaced", change.Replaced, "reconfigured", change.Reconfigured, "kept", len(change.Kept))
	logWarnings(ctx, r.log, file)
	for _, key := range change.Restart {
		r.log.WarnContext(ctx, "a changed setting takes effect only at the next start", "key", key)
	}
	return nil
}

// logWarnings tells what is valid in a file that is put into force, and still worth knowing.
func logWarnings(ctx context.Context, log *slog.Logger, file *config.File) {
	for _, w := range file.Warnings {
		log.WarnContext(ctx, "the configuration is valid but unusual", "where", w.String())
	}
}

// report says why nothing has changed, one record for each fault.
func (r *reloader) report(ctx context.Context, trigger string, err error) {
	if e, ok := errors.AsType[*config.Error](err); ok {
		for _, f := range e.Faults {
			r.log.ErrorContext(ctx, "the configuration has a fault", "err", f.String())
		}
		err = errors.New(count(len(e.Faults)+e.More, "fault"))
	}
	r.log.ErrorContext(ctx, "configuration not reloaded, the previous one stays in force", "trigger", trigger, "path", r.path, "err", err)
}
