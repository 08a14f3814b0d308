package workload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cdcseed/cdcseed/await"
	"github.com/cdcseed/cdcseed/metrics"
	"github.com/cdcseed/cdcseed/postgres"
	"github.com/cdcseed/cdcseed/shop"
)

// applier commits transactions over one connection of its own; each worker has one.
type applier struct {
	db      *postgres.DB
	own     *postgres.Ownership
	sql     *statements
	maxWait time.Duration
	log     *slog.Logger
	conn    *pgxpool.Conn
}

// outcome is what became of an attempt.
type outcome uint8

const (
	applied  outcome = iota
	conflict         // the server asks for it again
	lost             // the connection went before COMMIT was sent: nothing of it is in the tables
	unknown          // the connection went while COMMIT was under way
	refused          // the server refuses it: nothing of it is in the tables
)

// apply commits a transaction exactly once. The error is one that ends the run; a transaction that the server refuses
// is a Failed result.
func (a *applier) apply(ctx context.Context, t *shop.Transaction) (metrics.Result, error) {
	res := metrics.Result{Op: t.Op, Forced: t.Forced}
	for {
		if err := a.connect(ctx); err != nil {
			return res, err
		}
		rows, xid, what, err := a.attempt(ctx, t)
		if ctx.Err() != nil {
			return res, context.Cause(ctx)
		}
		if what == unknown {
			a.log.Warn("connection lost during COMMIT; asking for the outcome", "op", t.Op, "shard", t.Shard, "xid", xid, "reason", err)
			a.hangUp(ctx)
			res.Reconnects++
			res.Settled = true
			committed, err := a.settle(ctx, t, xid)
			if err != nil {
				return res, err
			}
			if !committed {
				continue
			}
			what = applied
		}
		switch what {
		case applied:
			res.Rows = rows
			return res, nil
		case conflict:
			if res.Retries++; res.Retries == maxRetries {
				a.log.Warn("transaction given up after its last retry", "op", t.Op, "shard", t.Shard, "retries", res.Retries, "reason", err)
				res.Failed = true
				return res, nil
			}
		case lost:
			a.log.Debug("connection lost; the transaction starts again", "op", t.Op, "shard", t.Shard, "reason", err)
			a.hangUp(ctx)
			res.Reconnects++
		default:
			if fatal(err) {
				return res, fmt.Errorf("%s in shard %d: %w", t.Op, t.Shard, err)
			}
			a.log.Warn("transaction refused", "op", t.Op, "shard", t.Shard, "reason", err)
			res.Failed = true
			return res, nil
		}
	}
}

// fatal tells errors that every further transaction would meet as well: a missing table or privilege (class 42), a full
// disk (class 53), a server that became a standby (25006).
func fatal(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) &&
		(strings.HasPrefix(pgErr.Code, "42") || strings.HasPrefix(pgErr.Code, "53") || pgErr.Code == "25006")
}

// maxRetries bounds how often a transaction is run again at the server's request; it is refused then.
const maxRetries = 100

// connect makes sure that there is a connection and that the shards are still ours.
func (a *applier) connect(ctx context.Context) error {
	if a.conn != nil {
		return nil
	}
	wait := await.Policy{What: a.db.Name(), MaxWait: a.maxWait, Heals: postgres.Lost, Log: a.log}
	conn, err := await.For(ctx, wait, func() (*pgxpool.Conn, error) {
		conn, err := a.db.Pool.Acquire(ctx)
		if err != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
		if err := conn.Ping(ctx); err != nil {
			conn.Release()
			return nil, fmt.Errorf("connect: %w", err)
		}
		if err := a.own.Ensure(ctx); err != nil {
			conn.Release()
			return nil, err
		}
		return conn, nil
	})
	if err != nil {
		return fmt.Errorf("reach the database: %w", err)
	}
	a.conn = conn
	return nil
}

// hangUp gives up the connection and whatever is open on it.
func (a *applier) hangUp(ctx context.Context) {
	if a.conn == nil {
		return
	}
	_ = a.conn.Conn().Close(context.WithoutCancel(ctx))
	a.conn.Release()
	a.conn = nil
}

// attempt runs a transaction once: everything up to the last statement in one round trip, COMMIT in another, because the
// transaction's id must be known before COMMIT is sent.
func (a *applier) attempt(ctx context.Context, t *shop.Transaction) (rows map[string]metrics.Counts, xid string, what outcome, err error) {
	conn := a.conn.Conn()
	b := &pgx.Batch{}
	b.Queue("BEGIN")
	b.Queue("SELECT pg_current_xact_id()::text")
	for i := range t.Changes {
		a.sql.queue(b, &t.Changes[i])
	}
	rows = make(map[string]metrics.Counts, 4)
	if err = readBatch(conn.SendBatch(ctx, b), t, rows, &xid); err != nil {
		what = judge(err)
		if what != lost {
			if _, rbErr := conn.Exec(ctx, "ROLLBACK", pgx.QueryExecModeSimpleProtocol); rbErr != nil {
				what = lost // and with it whatever was open
			}
		}
		return nil, xid, what, err
	}
	tag, err := conn.Exec(ctx, "COMMIT", pgx.QueryExecModeSimpleProtocol)
	switch {
	case err == nil && tag.String() == "COMMIT":
		return rows, xid, applied, nil
	case err == nil:
		return nil, xid, refused, fmt.Errorf("COMMIT answered %s", tag)
	}
	if what = judge(err); what == lost {
		what = unknown
	}
	return rows, xid, what, fmt.Errorf("commit: %w", err)
}

func readBatch(br pgx.BatchResults, t *shop.Transaction, rows map[string]metrics.Counts, xid *string) (err error) {
	defer func() { err = errors.Join(err, br.Close()) }()
	if _, err := br.Exec(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := br.QueryRow().Scan(xid); err != nil {
		return fmt.Errorf("ask for the transaction's id: %w", err)
	}
	for i := range t.Changes {
		c := &t.Changes[i]
		tag, err := br.Exec()
		if err != nil {
			return fmt.Errorf("%s %s: %w", c.Kind, c.Table, err)
		}
		n := rows[c.Table]
		switch c.Kind {
		case shop.Insert:
			n.Insert += tag.RowsAffected()
		case shop.Update:
			n.Update += tag.RowsAffected()
		case shop.Delete:
			n.Delete += tag.RowsAffected()
		}
		rows[c.Table] = n
	}
	return nil
}

// judge sorts an error before COMMIT.
func judge(err error) outcome {
	switch {
	case postgres.Conflict(err):
		return conflict
	case postgres.Lost(err):
		return lost
	}
	return refused
}

// settle finds out whether a transaction whose COMMIT was cut off is in the tables.
//
// pg_xact_status alone is not enough: a server that crashed before the transaction's WAL was flushed forgets the id and
// hands it out again, so "committed" may speak of another transaction. The row itself tells them apart, since nobody
// else writes to this shard.
func (a *applier) settle(ctx context.Context, t *shop.Transaction, xid string) (bool, error) {
	for {
		if err := a.connect(ctx); err != nil {
			return false, err
		}
		status, present, err := a.ask(ctx, t, xid)
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		switch {
		case err != nil && postgres.Lost(err):
			a.hangUp(ctx)
			continue
		case err != nil:
			return false, fmt.Errorf("settle the outcome of transaction %s: %w", xid, err)
		case status == "in progress":
			// The server has not noticed yet that our session is gone. It will; the pause is only to not ask without end.
			if !sleepUntil(ctx, ctx, time.Now().Add(20*time.Millisecond)) {
				return false, context.Cause(ctx)
			}
			continue
		}
		a.log.Info("outcome known", "op", t.Op, "shard", t.Shard, "xid", xid, "status", status, "present", present)
		return present && status != "aborted", nil
	}
}

func (a *applier) ask(ctx context.Context, t *shop.Transaction, xid string) (status string, present bool, err error) {
	conn := a.conn.Conn()
	var known *string
	err = conn.QueryRow(ctx, "SELECT pg_xact_status($1::text::xid8)", xid).Scan(&known)
	var pgErr *pgconn.PgError
	switch {
	case errors.As(err, &pgErr) && pgErr.Code == "22023": // "transaction ID is in the future": lost in a crash
		return "aborted", false, nil
	case err != nil:
		return "", false, fmt.Errorf("ask for the status of transaction %s: %w", xid, err)
	case known == nil:
		status = "too old to know"
	default:
		status = *known
	}
	query, args := a.sql.witness(t, xid)
	if err := conn.QueryRow(ctx, query, args...).Scan(&present); err != nil {
		return "", false, fmt.Errorf("look for the rows of transaction %s: %w", xid, err)
	}
	return status, present, nil
}
