package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

func TestErrorsAreTold(t *testing.T) {
	t.Parallel()
	pg := func(code string) error { return fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code}) }
	for _, c := range []struct {
		err            error
		lost, conflict bool
	}{
		{nil, false, false},
		{pg("40001"), false, true}, {pg("40P01"), false, true}, {pg("23505"), false, false}, {pg("42P01"), false, false},
		{pg("57P01"), true, false}, {pg("57P03"), true, false}, {pg("08006"), true, false}, {pg("53300"), true, false},
		{pg("28P01"), false, false}, {pg("3D000"), false, false},
		{fmt.Errorf("read: %w", io.EOF), true, false}, {io.ErrUnexpectedEOF, true, false}, {net.ErrClosed, true, false},
		{&net.OpError{Op: "dial", Err: errors.New("connection refused")}, true, false},
		{context.Canceled, false, false}, {errors.New("anything"), false, false},
	} {
		if Lost(c.err) != c.lost || Conflict(c.err) != c.conflict {
			t.Errorf("%v: lost %v, conflict %v", c.err, Lost(c.err), Conflict(c.err))
		}
	}
}

func TestServerIsJudged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		server   Server
		writable error
		logical  error
	}{
		{Server{Version: 150018, WALLevel: "logical"}, nil, nil},
		{Server{Version: 130002, WALLevel: "logical"}, ErrUnfit, nil},
		{Server{Version: 170005, WALLevel: "replica"}, nil, ErrUnfit},
		{Server{Version: 170005, WALLevel: "logical", Standby: true}, ErrRefused, nil},
	} {
		if err := c.server.Writable(); !errors.Is(err, c.writable) {
			t.Errorf("%+v: writable: %v", c.server, err)
		}
		if err := c.server.Logical(); !errors.Is(err, c.logical) {
			t.Errorf("%+v: logical: %v", c.server, err)
		}
	}
}

// A refused password is told at once; nobody waits for it to get better.
func TestWrongPasswordIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	cfg.Conn = cfg.Conn.Copy()
	cfg.Conn.Password = "wrong"
	db, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = db.WaitReady(t.Context(), time.Hour, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "28P01") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("error %v", err)
	}
}

func TestOwnership(t *testing.T) {
	t.Parallel()
	db := openTest(t)
	ctx := t.Context()
	for _, r := range [][2]int{{-1, 3}, {0, 65}, {5, 5}} {
		if _, err := db.Own(ctx, r[0], r[1]); err == nil {
			t.Errorf("shards %v are owned", r)
		}
	}
	first, err := db.Own(ctx, 0, 32)
	if err != nil {
		t.Fatal(err)
	}
	beside, err := db.Own(ctx, 32, 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := beside.Close(ctx); err != nil {
		t.Error(err)
	}
	if _, err := db.Own(ctx, 31, 33); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", first.pid)) {
		t.Errorf("error %v, want a refusal that names pid %d", err, first.pid)
	}
	// A lost session is replaced by another that has its locks.
	old := first.pid
	if _, err := db.Pool.Exec(ctx, "SELECT pg_terminate_backend($1, 60000)", old); err != nil {
		t.Fatal(err)
	}
	if err := first.Ensure(ctx); err != nil || first.pid == old {
		t.Errorf("after its session's end: pid %d again, %v", first.pid, err)
	}
	if _, err := db.Own(ctx, 0, 1); !errors.Is(err, ErrRefused) {
		t.Errorf("error %v", err)
	}
	// A network that is cut on our side only leaves the old session, with the locks; it is ended.
	old = first.pid
	first.conn = nil // as if lost, while the server still has it
	if err := first.Ensure(ctx); err != nil || first.pid == old {
		t.Errorf("past a session that lingers: pid %d, %v", first.pid, err)
	}
	// Another process that was faster keeps the locks.
	if _, err := db.Pool.Exec(ctx, "SELECT pg_terminate_backend($1, 60000)", first.pid); err != nil {
		t.Fatal(err)
	}
	faster, err := db.Own(ctx, 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Ensure(ctx); !errors.Is(err, ErrRefused) {
		t.Errorf("error %v", err)
	}
	if err := errors.Join(faster.Close(ctx), first.Close(ctx)); err != nil {
		t.Error(err)
	}
}

func TestSetupLockWaits(t *testing.T) {
	t.Parallel()
	db := openTest(t)
	inside, waiting, order := make(chan struct{}), make(chan struct{}), make(chan string, 2)
	done := make(chan error, 1)
	go func() {
		<-inside
		done <- db.WithSetup(t.Context(), func() { close(waiting) }, func(context.Context) error { order <- "second"; return nil })
	}()
	err := db.WithSetup(t.Context(), nil, func(context.Context) error {
		close(inside)
		<-waiting
		order <- "first"
		return nil
	})
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	if a, b := <-order, <-order; a != "first" || b != "second" {
		t.Errorf("%s before %s", a, b)
	}
	if err := db.WithSetup(t.Context(), nil, func(context.Context) error { return ErrUnfit }); !errors.Is(err, ErrUnfit) {
		t.Errorf("error %v", err)
	}
}

func TestSlots(t *testing.T) {
	t.Parallel()
	db := openTest(t)
	ctx := t.Context()
	name := db.Schema
	if s, err := db.Slot(ctx, name); err != nil || s.Exists {
		t.Fatalf("%+v, %v", s, err)
	}
	if err := db.DropSlot(ctx, name, time.Minute); err != nil {
		t.Errorf("dropping what is not there: %v", err)
	}
	// Before the slot: a reader that meets a change older than its publication ends, and other tests change things all along.
	if _, err := db.Pool.Exec(ctx, "CREATE PUBLICATION "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = db.Pool.Exec(context.WithoutCancel(ctx), "DROP PUBLICATION "+name) })
	if _, err := db.Pool.Exec(ctx, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", name); err != nil {
		t.Fatal(err)
	}
	if s, err := db.Slot(ctx, name); err != nil || !s.Exists || s.Active || !s.Consistent {
		t.Fatalf("%+v, %v", s, err)
	}
	// A reader keeps the slot from being dropped.
	cfg := db.Pool.Config().ConnConfig.Copy()
	cfg.RuntimeParams["replication"] = "database"
	delete(cfg.RuntimeParams, "search_path")
	reader, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	reader.PgConn().Frontend().SendQuery(&pgproto3.Query{String: fmt.Sprintf(`START_REPLICATION SLOT %s LOGICAL 0/0 (proto_version '1', publication_names '%s')`, name, name)})
	if err := reader.PgConn().Frontend().Flush(); err != nil {
		t.Fatal(err)
	}
	for copying := false; !copying; {
		msg, err := reader.PgConn().ReceiveMessage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		switch msg := msg.(type) {
		case *pgproto3.ErrorResponse:
			t.Fatalf("the reader is refused: %s", msg.Message)
		case *pgproto3.CopyBothResponse:
			copying = true
		}
	}
	if s, err := db.Slot(ctx, name); err != nil || !s.Active || s.PID == 0 {
		t.Fatalf("while it is read: %+v, %v", s, err)
	}
	if err := db.DropSlot(ctx, name, 100*time.Millisecond); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "pid") {
		t.Errorf("error %v", err)
	}
	if err := reader.Close(ctx); err != nil {
		t.Log(err)
	}
	if err := db.DropSlot(ctx, name, 15*time.Minute); err != nil {
		t.Error(err)
	}
}
