package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cdcseed/cdcseed/await"
)

// Slot is a replication slot.
type Slot struct {
	Exists     bool
	Active     bool
	PID        int32 // of the process that reads it; 0 if none
	Consistent bool  // it has its starting point: every later change will be streamed
	Database   string
}

// Slot looks at a replication slot.
func (db *DB) Slot(ctx context.Context, name string) (Slot, error) {
	s := Slot{Exists: true}
	err := db.Pool.QueryRow(ctx, `SELECT active, coalesce(active_pid, 0), confirmed_flush_lsn IS NOT NULL, coalesce(database, '')
		FROM pg_replication_slots WHERE slot_name = $1`, name).Scan(&s.Active, &s.PID, &s.Consistent, &s.Database)
	if errors.Is(err, pgx.ErrNoRows) {
		return Slot{}, nil
	}
	if err != nil {
		return s, fmt.Errorf("look at replication slot %q: %w", name, err)
	}
	return s, nil
}

// DropSlot drops a slot, once nobody reads it; a slot that does not exist is dropped. ErrRefused if it stays active.
func (db *DB) DropSlot(ctx context.Context, name string, maxWait time.Duration) error {
	var last Slot
	wait := await.Policy{What: fmt.Sprintf("the reader of slot %q", name), MaxWait: maxWait, Heals: func(err error) bool {
		return errors.Is(err, errActive)
	}}
	_, err := await.For(ctx, wait, func() (struct{}, error) {
		s, err := db.Slot(ctx, name)
		if last = s; err != nil || !s.Exists {
			return struct{}{}, err
		}
		if s.Active {
			return struct{}{}, fmt.Errorf("pid %d: %w", s.PID, errActive)
		}
		_, err = db.Pool.Exec(ctx, "SELECT pg_drop_replication_slot($1)", name)
		return struct{}{}, err //nolint:wrapcheck // wrapped below
	})
	if errors.Is(err, errActive) {
		return fmt.Errorf("replication slot %q is read by pid %d; stop its reader first: %w", name, last.PID, ErrRefused)
	}
	if err != nil {
		return fmt.Errorf("drop replication slot %q: %w", name, err)
	}
	return nil
}

var errActive = errors.New("the slot is active")
