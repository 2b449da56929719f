package gateway

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a admission
		a.configure(Admission{MaxInFlight: 1, MaxQueued: 2, QueueTimeout: time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		if err := a.enter(ctx); err != nil {
			t.Fatal(err)
		}
		errs := make(chan error, 3)
		go func() { errs <- a.enter(t.Context()) }()
		synctest.Wait()
		go func() { errs <- a.enter(ctx) }()
		synctest.Wait()
		var full *overloadedError
		if err := a.enter(ctx); !errors.As(err, &full) || full.waited != 0 {
			t.Errorf("the queue is full: %v", err)
		}
		cancel()
		synctest.Wait()
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that left the queue: %v", err)
		}
		a.leave()
		if err := <-errs; err != nil {
			t.Errorf("the first in the queue: %v", err)
		}
		began := time.Now()
		if err := a.enter(t.Context()); !errors.As(err, &full) || time.Since(began) != time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		go func() { errs <- a.enter(t.Context()) }()
		synctest.Wait()
		a.configure(Admission{MaxInFlight: 2, MaxQueued: 0})
		if err := <-errs; err != nil {
			t.Errorf("after there was more room: %v", err)
		}
		a.leave()
		a.leave()
		if a.n != 0 || a.waiting.Len() != 0 {
			t.Errorf("%d in flight and %d waiting are left", a.n, a.waiting.Len())
		}
	})
}

func TestOverloadedGatewaySaysSo(t *testing.T) {
	f := explain("nas", &overloadedError{cfg: DefaultAdmission()})
	if f.Error != "overloaded" || f.Executed != "no" || f.Class != "gateway_overloaded" || f.RetryAfterMS != 1000 || f.Attempts != 0 {
		t.Errorf("got %+v", f)
	}
}
