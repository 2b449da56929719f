package idrac

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/mcpgw/mcpgw/downstream/builtin/kit"
)

const rootPath = "/redfish/v1/"

type cached struct {
	value object
	until time.Time
}

// exhausted is how long a controller without free sessions is to be left alone: sessions that were never given back end by themselves after
// 30 minutes (SessionTimeout), and every attempt to log in makes it worse.
const exhausted = 30 * time.Minute

// explain reads Redfish's errors.
func (b *bmc) explain(status int, reason string, header http.Header, body []byte) error {
	told, ids := extended(body)
	switch {
	case strings.Contains(ids, "RAC0218"), strings.Contains(ids, "SessionLimitExceeded"), strings.Contains(told, "maximum number of user sessions"):
		return &kit.Failure{
			Class: kit.ClassAuthExhausted, Status: status, RetryAfter: exhausted,
			Message: b.system + " has no free session (RAC0218): other programs have not given theirs back. Nothing was done. They end by themselves after " +
				"30 minutes; racadm getssninfo and closessn end them at once",
		}
	case status == http.StatusUnauthorized:
		return &kit.Failure{Class: kit.ClassAuth, Status: status, Message: fmt.Sprintf(
			"%s does not accept the user name or password (HTTP 401%s): check username and password in gateway.yaml", b.system, after(told))}
	case status == http.StatusForbidden:
		return &kit.Refusal{Status: status, Message: fmt.Sprintf("the account lacks a privilege for this (HTTP 403%s)", after(told))}
	case status == http.StatusTooManyRequests:
		return nil
	case status >= 500 && status != http.StatusNotImplemented && status != http.StatusInsufficientStorage:
		if told == "" {
			told = reason
		}
		return &kit.Failure{
			Class: kit.ClassStatus, Status: status, Executed: true, RetryAfter: kit.RetryAfter(header),
			Message: fmt.Sprintf("%s answered HTTP %d%s", b.system, status, after(told)),
		}
	}
	if told == "" {
		told = reason
	}
	return &kit.Refusal{Status: status, Message: fmt.Sprintf("the management controller refuses (HTTP %d%s)", status, after(told))}
}

func after(told string) string {
	if told == "" {
		return ""
	}
	return ": " + told
}

// extended returns the messages of an error answer, and all its message ids.
func extended(body []byte) (told, ids string) {
	var answer struct {
		Error struct {
			Code    string
			Message string
			Info    []struct {
				ID         string `json:"MessageId"`
				Message    string
				Resolution string
			} `json:"@Message.ExtendedInfo"`
		} `json:"error"`
	}
	_ = json.Unmarshal(body, &answer) // often there is no body, or a page for people
	var texts []string
	all := []string{answer.Error.Code}
	for _, i := range answer.Error.Info {
		all = append(all, i.ID)
		if i.Message == "" {
			continue
		}
		text := strings.TrimSpace(i.Message)
		if r := strings.TrimSpace(i.Resolution); r != "" && !strings.EqualFold(r, "None") && !strings.EqualFold(r, "None.") {
			text += " " + r
		}
		texts = append(texts, text)
	}
	if len(texts) == 0 {
		texts = append(texts, strings.TrimSpace(answer.Error.Message))
	}
	const most = 1000
	told = strings.Join(texts, "; ")
	return strings.ToValidUTF8(told[:min(len(told), most)], ""), strings.Join(all, " ")
}

// send makes a request, two at a time at most: controllers are slow, and more would make them slower.
func (b *bmc) send(ctx context.Context, r kit.Request, out any) (http.Header, error) {
	select {
	case b.slots <- struct{}{}:
		defer func() { <-b.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if b.login == nil {
		return b.api.Do(ctx, r, out)
	}
	return b.inSession(ctx, r, out)
}

// fetch reads a resource, which may have a query. With fresh it is asked for again even if it is remembered.
func (b *bmc) fetch(ctx context.Context, link string, fresh bool) (object, error) {
	clean, err := local(link)
	if err != nil {
		return nil, err
	}
	if !fresh {
		b.mu.Lock()
		known, ok := b.cache[clean]
		b.mu.Unlock()
		if ok && time.Now().Before(known.until) {
			return known.value, nil
		}
	}
	at, query, _ := strings.Cut(clean, "?")
	var out object
	r := kit.Request{Path: at}
	if query != "" {
		if r.Query, err = url.ParseQuery(query); err != nil {
			return nil, fmt.Errorf("the controller links to %q, which is no address", clean)
		}
	}
	if _, err := b.send(ctx, r, &out); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.cache) > 2000 {
		clear(b.cache)
	}
	b.cache[clean] = cached{out, time.Now().Add(b.ttl)}
	return out, nil
}

// forget is called around everything that changes something.
func (b *bmc) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.cache)
}

// local is the path of a link, which must lead to the controller itself, and into its Redfish service.
func local(link string) (string, error) {
	u, err := url.Parse(link)
	if err != nil || u.Host != "" || u.Scheme != "" || !strings.HasPrefix(u.Path, "/redfish/v1") || path.Clean(u.Path) != strings.TrimRight(u.Path, "/") {
		return "", fmt.Errorf("path %q: expected one below /redfish/v1", link)
	}
	if u.RawQuery != "" {
		return u.EscapedPath() + "?" + u.RawQuery, nil
	}
	return u.EscapedPath(), nil
}

// follow reads the resource that a member of o links to; nil if there is none.
func (b *bmc) follow(ctx context.Context, o object, member string, fresh bool) (object, error) {
	link := o.link(member)
	if link == "" {
		return nil, nil
	}
	return b.fetch(ctx, link, fresh)
}

func (b *bmc) root(ctx context.Context) (object, error) { return b.fetch(ctx, rootPath, false) }

// members reads the collection that a member of o links to, with all that is in it, but not more than a thousand.
func (b *bmc) members(ctx context.Context, c *kit.Call, o object, member string, fresh bool) ([]object, error) {
	link := o.link(member)
	if link == "" {
		return nil, nil
	}
	page, err := b.collection(ctx, link, fresh)
	if err != nil {
		return nil, err
	}
	const most = 1000
	var list []object
	for {
		list = append(list, page.objects("Members")...)
		next := page.text("Members@odata.nextLink")
		if next == "" || len(list) >= most {
			break
		}
		if page, err = b.fetch(ctx, next, fresh); err != nil {
			return nil, err
		}
	}
	list = list[:min(len(list), most)]
	return list, b.complete(ctx, c, list, fresh)
}

// collection reads a collection, in one request with its members where the controller can.
func (b *bmc) collection(ctx context.Context, link string, fresh bool) (object, error) {
	root, err := b.root(ctx)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	expand := !b.noExpand
	b.mu.Unlock()
	features := root.object("ProtocolFeaturesSupported").object("ExpandQuery")
	if expand && (features.truth("NoLinks") || features.truth("ExpandAll")) && !strings.Contains(link, "?") {
		query := "?$expand=.($levels=1)"
		if !features.truth("NoLinks") {
			query = "?$expand=*($levels=1)"
		}
		page, err := b.fetch(ctx, link+query, fresh)
		if err == nil {
			return page, nil
		}
		if _, refused := errors.AsType[*kit.Refusal](err); !refused {
			return nil, err
		}
		b.mu.Lock()
		b.noExpand = true
		b.mu.Unlock()
	}
	return b.fetch(ctx, link, fresh)
}

// complete replaces the members that are only links by what they link to. What cannot be read keeps its link and says why.
func (b *bmc) complete(ctx context.Context, c *kit.Call, list []object, fresh bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		done  int
		next  int
		first error
	)
	work := func() {
		for {
			mu.Lock()
			for next < len(list) && !list[next].onlyLink() {
				next++
			}
			i := next
			next++
			mu.Unlock()
			if i >= len(list) || ctx.Err() != nil {
				return
			}
			o, err := b.fetch(ctx, list[i].text("@odata.id"), fresh)
			if refused, ok := errors.AsType[*kit.Refusal](err); ok {
				o, err = object{"@odata.id": list[i].text("@odata.id"), "Name": path.Base(list[i].text("@odata.id")), "unreadable": refused.Message}, nil
			}
			mu.Lock()
			if err != nil {
				if first == nil {
					first = err
				}
				mu.Unlock()
				cancel(err)
				return
			}
			list[i] = o
			done++
			n := done
			mu.Unlock()
			if n%5 == 0 {
				c.Progress(ctx, float64(n), 0, fmt.Sprintf("%d of %d parts read", n, len(list)))
			}
		}
	}
	for range min(cap(b.slots), len(list)) {
		wg.Go(work)
	}
	wg.Wait()
	if first == nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return first
}
