package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Lock numbers within a schema's lock space: 0 to 63 are the shards, setup is beyond them.
const (
	lockShards = 64
	lockSetup  = 64
)

// lockClass maps a schema to the first key of its advisory locks. Postgres scopes advisory locks by database.
func lockClass(schema string) int32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte("cdcseed/" + schema))
	return int32(h.Sum32())
}

// WithSetup runs fn under the schema's setup lock, waiting for another process that holds it, of which onWait hears. The
// lock lives on a connection of its own and goes with it, so a killed process leaves none behind.
func (db *DB) WithSetup(ctx context.Context, onWait func(), fn func(ctx context.Context) error) error {
	conn, err := db.Pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect for the setup lock of schema %q: %w", db.Schema, err)
	}
	// The session is closed rather than returned: whatever happens, its locks end with it.
	c := conn.Hijack()
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	var free bool
	if err := c.QueryRow(ctx, "SELECT pg_try_advisory_lock($1, $2)", lockClass(db.Schema), lockSetup).Scan(&free); err != nil {
		return fmt.Errorf("take the setup lock of schema %q: %w", db.Schema, err)
	}
	if !free {
		if onWait != nil {
			onWait()
		}
		if _, err := c.Exec(ctx, "SELECT pg_advisory_lock($1, $2)", lockClass(db.Schema), lockSetup); err != nil {
			return fmt.Errorf("wait for the setup lock of schema %q: %w", db.Schema, err)
		}
	}
	return fn(ctx)
}

// Ownership holds the advisory locks of a range of shards for as long as a workload runs. The zero value is not usable.
type Ownership struct {
	db       *DB
	from, to int

	mu    sync.Mutex
	conn  *pgx.Conn
	pid   int32     // of the last session that held the locks
	since time.Time // its backend_start, which tells it from a later process with the same pid
}

// Own takes the locks of shards from to (exclusive; 0 ≤ from < to ≤ 64). It is refused at once, with ErrRefused and
// the holder's pid, when another process has any of them.
func (db *DB) Own(ctx context.Context, from, to int) (*Ownership, error) {
	if from < 0 || to > lockShards || from >= to {
		return nil, fmt.Errorf("postgres: shards %d to %d are no range within 0 to %d", from, to, lockShards)
	}
	o := &Ownership{db: db, from: from, to: to}
	return o, o.Ensure(ctx)
}

// Ensure checks that the locks are still held and takes them again after a lost connection. ErrRefused means that another
// process took them meanwhile: nothing may be written any more.
func (o *Ownership) Ensure(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.conn != nil {
		if o.conn.Ping(ctx) == nil {
			return nil
		}
		_ = o.conn.Close(ctx)
		o.conn = nil
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	pooled, err := o.db.Pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect for the shard locks: %w", err)
	}
	conn := pooled.Hijack()
	if o.pid != 0 {
		// After a cut network the server may not know yet that our old session is dead, and keep its locks.
		_, err := conn.Exec(ctx, `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2`,
			o.pid, o.since)
		if err != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
			return fmt.Errorf("end our lost session %d: %w", o.pid, err)
		}
	}
	rows, _ := conn.Query(ctx, `SELECT s FROM generate_series($2::int, $3::int - 1) s WHERE NOT pg_try_advisory_lock($1, s)`,
		lockClass(o.db.Schema), o.from, o.to)
	missing, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err == nil && len(missing) > 0 {
		err = o.refusal(ctx, conn, missing[0])
	}
	if err == nil {
		err = conn.QueryRow(ctx, "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()").Scan(&o.pid, &o.since)
	}
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return fmt.Errorf("take the locks of shards %d-%d of schema %q: %w", o.from, o.to-1, o.db.Schema, err)
	}
	o.conn = conn
	return nil
}

// refusal says who holds a shard's lock.
func (o *Ownership) refusal(ctx context.Context, conn *pgx.Conn, shard int32) error {
	rows, _ := conn.Query(ctx, `SELECT format('pid %s (%s, since %s)', a.pid, coalesce(host(a.client_addr), 'local'),
			to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ'))
		FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE l.locktype = 'advisory' AND l.granted AND l.classid = $1::bigint::oid AND l.objid = $2::int::oid AND l.objsubid = 2
			AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
		int64(uint32(lockClass(o.db.Schema))), shard)
	holders, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(holders) == 0 {
		holders = []string{"a process that cannot be seen"}
	}
	return fmt.Errorf("another cdcseed works on them: %s; stop it first: %w", strings.Join(holders, ", "), ErrRefused)
}

// Close gives the locks back.
func (o *Ownership) Close(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.conn == nil {
		return nil
	}
	// Given back by word, because the server notices a closed connection only a moment later, when the next run may be there.
	_, _ = o.conn.Exec(ctx, "SELECT pg_advisory_unlock_all()")
	err := o.conn.Close(ctx)
	o.conn = nil
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close the connection of the shard locks: %w", err)
	}
	return nil
}
