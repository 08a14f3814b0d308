package debezium

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cdcseed/cdcseed/await"
)

// Client speaks to Kafka Connect's REST interface.
type Client struct {
	base    *url.URL
	http    *http.Client
	maxWait time.Duration
	log     *slog.Logger
}

// NewClient takes the address of a Connect worker: http://localhost:8083. Credentials may stand in it. maxWait bounds how
// long each call waits for the worker, through its rebalances, and for what was asked for to come about; 0: not at all.
func NewClient(address string, maxWait time.Duration, log *slog.Logger) (*Client, error) {
	u, err := ParseURL(address)
	if err != nil {
		return nil, err
	}
	return &Client{base: u, http: &http.Client{Timeout: time.Minute}, maxWait: maxWait, log: log}, nil
}

// ParseURL checks the address of a Connect worker.
func ParseURL(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return nil, errors.New("not an address like http://localhost:8083") // url.Parse's error would quote a password
	}
	return u, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Address is where the client speaks to, without credentials.
func (c *Client) Address() string {
	u := *c.base
	u.User = nil
	return u.String()
}

// ErrNotFound means that Connect has no connector of that name.
var ErrNotFound = errors.New("no such connector")

// StatusError is an answer of Connect that is not a success.
type StatusError struct {
	Code    int
	Message string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("Connect answered %d: %s", e.Code, e.Message)
}

// do sends a request; in and out may be nil.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		js, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("render the request: %w", err)
		}
		body = bytes.NewReader(js)
	}
	route, query, _ := strings.Cut(path, "?")
	u := c.base.JoinPath(route)
	u.User, u.RawQuery = nil, query
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if user := c.base.User; user != nil {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask Kafka Connect: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	const most = 16 << 20
	answer, err := io.ReadAll(io.LimitReader(res.Body, most))
	switch {
	case err != nil:
		return fmt.Errorf("read Connect's answer to %s %s: %w", method, path, err)
	case res.StatusCode == http.StatusNotFound && strings.HasPrefix(path, "/connectors/"):
		return ErrNotFound
	case res.StatusCode >= 300:
		var e struct {
			Message string `json:"message"`
		}
		if json.Unmarshal(answer, &e) != nil || e.Message == "" {
			e.Message = strings.TrimSpace(string(answer[:min(len(answer), 200)]))
		}
		return &StatusError{res.StatusCode, e.Message}
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			return fmt.Errorf("read Connect's answer to %s %s: %w", method, path, err)
		}
	}
	return nil
}

// heals tells what waiting may heal: no answer at all, a rebalance (409), a worker that is starting (5xx, and 404 on the
// root path while the REST resources are not there yet).
func heals(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Code == http.StatusConflict || status.Code >= 500
	}
	return !errors.Is(err, ErrNotFound)
}

func (c *Client) policy() await.Policy {
	return await.Policy{What: "Kafka Connect at " + c.Address(), MaxWait: c.maxWait, Heals: heals, Log: c.log}
}

// retry repeats a request through rebalances.
func (c *Client) retry(ctx context.Context, method, path string, in, out any) error {
	_, err := await.For(ctx, c.policy(), func() (struct{}, error) {
		return struct{}{}, c.do(ctx, method, path, in, out)
	})
	return err //nolint:wrapcheck // wrapped by the callers
}

// WaitReady waits until the worker answers and returns its version.
func (c *Client) WaitReady(ctx context.Context) (string, error) {
	var info struct {
		Version string `json:"version"`
	}
	p := c.policy()
	p.Heals = nil
	_, err := await.For(ctx, p, func() (struct{}, error) {
		if err := c.do(ctx, http.MethodGet, "/", nil, &info); err != nil {
			return struct{}{}, err
		}
		// The root answers before the worker has joined its group; this does not.
		return struct{}{}, c.do(ctx, http.MethodGet, "/connectors", nil, nil)
	})
	return info.Version, err
}

func path(name string, more ...string) string {
	return "/connectors/" + url.PathEscape(name) + strings.Join(more, "")
}

// Apply creates the connector or changes its configuration, and sets it going. fresh makes it forget what it read before,
// so that it takes a new snapshot: the right thing exactly when its slot does not exist, since offsets that outlive their
// slot lose changes silently.
func (c *Client) Apply(ctx context.Context, conn Connector, fresh bool) error {
	_, err := c.Status(ctx, conn.Name)
	switch {
	case errors.Is(err, ErrNotFound):
		// Created stopped: it must not run before its offsets are settled.
		body := map[string]any{"name": conn.Name, "config": conn.Config(), "initial_state": StateStopped}
		err = c.retry(ctx, http.MethodPost, "/connectors", body, nil)
	case err == nil:
		if fresh {
			err = c.Stop(ctx, conn.Name)
		}
		if err == nil {
			err = c.retry(ctx, http.MethodPut, path(conn.Name, "/config"), conn.Config(), nil)
		}
	}
	if err != nil {
		return fmt.Errorf("apply connector %q: %w", conn.Name, err)
	}
	if fresh {
		if err := c.DeleteOffsets(ctx, conn.Name); err != nil {
			return err
		}
	}
	if err := c.retry(ctx, http.MethodPut, path(conn.Name, "/resume"), nil, nil); err != nil {
		return fmt.Errorf("set connector %q going: %w", conn.Name, err)
	}
	return nil
}

// State of a connector or task.
const (
	StateRunning = "RUNNING"
	StateFailed  = "FAILED"
	StateStopped = "STOPPED"
)

// Status is what Connect says of a connector.
type Status struct {
	Name      string `json:"name"`
	Connector struct {
		State  string `json:"state"`
		Worker string `json:"worker_id"`
		Trace  string `json:"trace,omitempty"`
	} `json:"connector"`
	Tasks []struct {
		ID     int    `json:"id"`
		State  string `json:"state"`
		Worker string `json:"worker_id"`
		Trace  string `json:"trace,omitempty"`
	} `json:"tasks"`
}

// Running reports whether the connector and at least one task, and all of them, run.
func (s Status) Running() bool {
	for _, t := range s.Tasks {
		if t.State != StateRunning {
			return false
		}
	}
	return s.Connector.State == StateRunning && len(s.Tasks) > 0
}

// ErrFailed marks a connector that is there and does not work.
var ErrFailed = errors.New("the connector has failed")

// Err returns an error, marked ErrFailed, with the cause of the first failure and what to try; nil when nothing failed.
func (s Status) Err() error {
	trace := ""
	if s.Connector.State == StateFailed {
		trace = s.Connector.Trace
	}
	for _, t := range s.Tasks {
		if t.State == StateFailed && trace == "" {
			trace = t.Trace
		}
	}
	if trace == "" && s.Connector.State != StateFailed {
		return nil
	}
	cause := RootCause(trace)
	return fmt.Errorf("%w: %s; try: %s", ErrFailed, cause, Advice(trace))
}

// Status asks for the state. ErrNotFound if there is no such connector.
func (c *Client) Status(ctx context.Context, name string) (Status, error) {
	var s Status
	if err := c.retry(ctx, http.MethodGet, path(name, "/status"), nil, &s); err != nil {
		return s, fmt.Errorf("status of connector %q: %w", name, err)
	}
	return s, nil
}

var errNotYet = errors.New("not there yet")

// WaitRunning waits until the connector and its task run. A failure ends the wait at once.
func (c *Client) WaitRunning(ctx context.Context, name string) error {
	return c.waitFor(ctx, name, func(s Status) bool { return s.Running() })
}

func (c *Client) waitFor(ctx context.Context, name string, done func(Status) bool) error {
	p := await.Policy{What: fmt.Sprintf("connector %q", name), MaxWait: c.maxWait, Log: c.log}
	p.Heals = func(err error) bool { return !errors.Is(err, ErrFailed) }
	_, err := await.For(ctx, p, func() (struct{}, error) {
		s, err := c.Status(ctx, name)
		switch {
		case err != nil:
			return struct{}{}, err
		case done(s):
			return struct{}{}, nil
		case s.Err() != nil:
			return struct{}{}, s.Err()
		}
		return struct{}{}, fmt.Errorf("connector %s with %d tasks: %w", s.Connector.State, len(s.Tasks), errNotYet)
	})
	if err != nil {
		return fmt.Errorf("connector %q: %w", name, err)
	}
	return nil
}

// Restart restarts the connector and its tasks.
func (c *Client) Restart(ctx context.Context, name string) error {
	if err := c.retry(ctx, http.MethodPost, path(name, "/restart?includeTasks=true&onlyFailed=false"), nil, nil); err != nil {
		return fmt.Errorf("restart connector %q: %w", name, err)
	}
	return nil
}

// Stop stops the connector, keeping its configuration and offsets, and waits until its tasks are gone. A connector that
// does not exist is stopped.
func (c *Client) Stop(ctx context.Context, name string) error {
	err := c.retry(ctx, http.MethodPut, path(name, "/stop"), nil, nil)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stop connector %q: %w", name, err)
	}
	p := await.Policy{What: fmt.Sprintf("the stop of connector %q", name), MaxWait: c.maxWait}
	_, err = await.For(ctx, p, func() (struct{}, error) {
		s, err := c.Status(ctx, name)
		if err == nil && (s.Connector.State != StateStopped || len(s.Tasks) > 0) {
			err = fmt.Errorf("connector %s with %d tasks: %w", s.Connector.State, len(s.Tasks), errNotYet)
		}
		return struct{}{}, err
	})
	return err
}

// DeleteOffsets makes a stopped connector forget how far it was. A connector that does not exist has nothing to forget.
func (c *Client) DeleteOffsets(ctx context.Context, name string) error {
	err := c.retry(ctx, http.MethodDelete, path(name, "/offsets"), nil, nil)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("delete the offsets of connector %q: %w", name, err)
	}
	return nil
}

// Delete removes the connector and waits until it is gone; its offsets outlive it. Removing one that does not exist is no
// error.
func (c *Client) Delete(ctx context.Context, name string) error {
	err := c.retry(ctx, http.MethodDelete, path(name), nil, nil)
	if err == nil {
		gone := await.Policy{What: fmt.Sprintf("the removal of connector %q", name), MaxWait: c.maxWait}
		_, err = await.For(ctx, gone, func() (struct{}, error) {
			_, err := c.Status(ctx, name)
			if errors.Is(err, ErrNotFound) {
				return struct{}{}, nil
			}
			if err == nil {
				err = errNotYet
			}
			return struct{}{}, err
		})
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("delete connector %q: %w", name, err)
	}
	return nil
}

// Config reads the configuration that Connect has. ErrNotFound if there is no such connector.
func (c *Client) Config(ctx context.Context, name string) (map[string]string, error) {
	var cfg map[string]string
	if err := c.retry(ctx, http.MethodGet, path(name, "/config"), nil, &cfg); err != nil {
		return nil, fmt.Errorf("configuration of connector %q: %w", name, err)
	}
	return cfg, nil
}

// RootCause picks the innermost cause out of a Java stack trace.
func RootCause(trace string) string {
	cause := ""
	for line := range strings.Lines(trace) {
		line = strings.TrimSpace(line)
		if inner, ok := strings.CutPrefix(line, "Caused by: "); ok {
			cause = inner
		} else if cause == "" && line != "" {
			cause = line
		}
	}
	if cause == "" {
		return "Connect gives no reason"
	}
	return cause
}

// advice are the failures that people meet, by what their traces say.
var advice = []struct{ sign, try string }{
	{"password authentication failed", "check --user and --password, and --connector-password if it is a reference that Connect resolves"},
	{"no pg_hba.conf entry", "allow Connect's address in pg_hba.conf, for replication too"},
	{"Connection refused", "check that --connector-db-host and --connector-db-port name Postgres as Connect sees it: localhost inside a container is the container"},
	{"UnknownHostException", "check --connector-db-host: Connect cannot resolve it"},
	{"The connection attempt failed", "check that --connector-db-host and --connector-db-port name Postgres as Connect sees it"},
	{"is active for PID", "another connector or a lost session reads the slot: stop it, or choose another with --slot"},
	{"all replication slots are in use", "drop a slot that nobody reads, or raise max_replication_slots"},
	{"number of requested standby connections exceeds max_wal_senders", "raise max_wal_senders"},
	{"wal_level", "ALTER SYSTEM SET wal_level = logical, then restart Postgres"},
	{"logical decoding requires", "ALTER SYSTEM SET wal_level = logical, then restart Postgres"},
	{"permission denied", "give the role REPLICATION, and SELECT on the captured tables"},
	{"must be superuser or replication role", "ALTER ROLE ... REPLICATION"},
	{"publication", "run `cdcseed migrate up`: it makes the publication"},
	{"UNKNOWN_TOPIC_OR_PARTITION", "run `cdcseed topics create`"},
	{"not present in metadata", "run `cdcseed topics create`: the connector writes only to topics that exist"},
	{"can no longer be accessed", "the slot was invalidated (max_slot_wal_keep_size); run `cdcseed connector reset`, then apply: a new snapshot is taken"},
	{"Couldn't obtain encoding", "check --db"},
	{"does not exist", "check --db and --schema, and run `cdcseed migrate up`"},
}

// Advice says what to try when a trace is met.
func Advice(trace string) string {
	for _, a := range advice {
		if strings.Contains(trace, a.sign) {
			return a.try
		}
	}
	return "look at the worker's log; `cdcseed connector restart` once it is healed"
}
