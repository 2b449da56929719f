package idrac

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

// session is one that the controller has opened for us. The zero value is none.
type session struct {
	token, location string
}

// errSessionOver reports that the controller does not know our session any more.
var errSessionOver = errors.New("the session is over")

// explainInSession is explain where 401 says something about the session rather than the password.
func (b *bmc) explainInSession(status int, reason string, header http.Header, body []byte) error {
	if status == http.StatusUnauthorized {
		return errSessionOver
	}
	return b.explain(status, reason, header, body)
}

// inSession makes a request in the one session. If that is over, which the controller says before it acts, another is opened, once.
func (b *bmc) inSession(ctx context.Context, r kit.Request, out any) (http.Header, error) {
	s, err := b.open(ctx, session{})
	if err != nil {
		return nil, err
	}
	header, err := b.as(ctx, s, r, out)
	if !errors.Is(err, errSessionOver) {
		return header, err
	}
	next, err := b.open(ctx, s)
	if err != nil {
		return nil, err
	}
	header, err = b.as(ctx, next, r, out)
	if errors.Is(err, errSessionOver) {
		return header, &kit.Failure{Class: kit.ClassAuth, Status: http.StatusUnauthorized, Message: b.system +
			" ends each session at once (HTTP 401): check the privileges of the account, or set idrac.login to basic"}
	}
	return header, err
}

func (b *bmc) as(ctx context.Context, s session, r kit.Request, out any) (http.Header, error) {
	h := r.Header.Clone()
	if h == nil {
		h = http.Header{}
	}
	h.Set("X-Auth-Token", s.token)
	r.Header = h
	return b.api.Do(ctx, r, out)
}

// open returns the session, and opens one if there is none or it is the one that is over.
func (b *bmc) open(ctx context.Context, over session) (session, error) {
	select {
	case b.loggingIn <- struct{}{}:
		defer func() { <-b.loggingIn }()
	case <-ctx.Done():
		return session{}, context.Cause(ctx)
	}
	b.mu.Lock()
	now := b.session
	b.mu.Unlock()
	if now.token != "" && now != over {
		return now, nil
	}
	where := "/redfish/v1/SessionService/Sessions"
	var root object
	if _, err := b.login.Do(ctx, kit.Request{Path: rootPath}, &root); err != nil {
		return session{}, err
	} else if link := root.object("Links").link("Sessions"); link != "" {
		if where, err = local(link); err != nil {
			return session{}, err
		}
	}
	var created object
	header, err := b.login.Do(ctx, kit.Request{Method: http.MethodPost, Path: where, JSON: object{"UserName": b.user, "Password": b.password}}, &created)
	if err != nil {
		return session{}, err
	}
	next := session{token: header.Get("X-Auth-Token"), location: header.Get("Location")}
	if next.location == "" {
		next.location = created.text("@odata.id")
	}
	if next.token == "" {
		return session{}, &kit.Failure{Class: kit.ClassMalformed, Message: b.system + " opened a session without a token (no X-Auth-Token)"}
	}
	b.mu.Lock()
	b.session = next
	b.mu.Unlock()
	if over.token != "" {
		// It may live on: some controllers answer 401 for other reasons. That it cannot be ended is the usual case, and no harm.
		_ = b.end(ctx, next, over.location)
	}
	return next, nil
}

// end deletes a session.
func (b *bmc) end(ctx context.Context, as session, location string) error {
	if u, err := b.api.Base().Parse(location); err == nil { // some controllers answer a whole address
		location = u.EscapedPath()
	}
	where, err := local(location)
	if err != nil {
		return err
	}
	_, err = b.as(ctx, as, kit.Request{Method: http.MethodDelete, Path: where}, nil)
	return err
}

// giveBack ends the session when the server is no longer used: nobody else could.
func (b *bmc) giveBack(ctx context.Context) error {
	b.mu.Lock()
	s := b.session
	b.session = session{}
	b.mu.Unlock()
	if s.token == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := b.end(ctx, s, s.location)
	if errors.Is(err, errSessionOver) {
		return nil
	}
	return err
}
