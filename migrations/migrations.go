// Package migrations is the second station on the data's way: it makes the tables, the publication and the heartbeat in
// Postgres, and takes away again what it made. Steps are dated and frozen once landed; therefore they are written in SQL
// and do not import models.
package migrations

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/go-gormigrate/gormigrate/v2"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/cdcseed/cdcseed/postgres"
)

// Target is where the migrations go and who makes them.
type Target struct {
	Schema      string // must be the DB's schema
	Publication string
	RunID       string // recorded in the marker
	Version     string // of cdcseed, recorded in the marker
}

// lockTimeout bounds the wait for a table that somebody else reads, so that a forgotten psql is named instead of hanging.
const lockTimeout = "SET LOCAL lock_timeout = '30s'"

// Up applies the steps that are missing, each in a transaction of its own. The caller holds the setup lock
// (postgres.DB.WithSetup). It returns the ids of the steps applied, also with an error.
func (t Target) Up(ctx context.Context, db *postgres.DB, log *slog.Logger) ([]string, error) {
	state, err := t.Inspect(ctx, db.Pool)
	if err != nil {
		return nil, err
	}
	if err := t.MayCreate(state); err != nil {
		return nil, err
	}
	if !state.Marker {
		if err := t.bootstrap(ctx, db, state); err != nil {
			return nil, err
		}
	}
	before, err := t.Status(ctx, db)
	if err != nil {
		return nil, err
	}
	var applied []string
	for i, m := range steps(t.Publication) {
		if before[i].Applied {
			continue
		}
		err := db.Gorm.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			if err := tx.Exec(lockTimeout).Error; err != nil {
				return fmt.Errorf("set lock_timeout: %w", err)
			}
			if err := t.migrator(tx).MigrateTo(m.ID); err != nil {
				return err
			}
			return t.record(tx)
		})
		if err != nil {
			return applied, fmt.Errorf("apply migration %s (%d applied before it): %w", m.ID, len(applied), err)
		}
		applied = append(applied, m.ID)
		log.Debug("migration applied", "id", m.ID)
	}
	return applied, nil
}

// bootstrap makes the schema, if it is missing, and the marker, in one transaction.
func (t Target) bootstrap(ctx context.Context, db *postgres.DB, state State) error {
	return pgx.BeginFunc(ctx, db.Pool, func(tx pgx.Tx) error { //nolint:wrapcheck // wrapped within
		if !state.SchemaExists {
			if _, err := tx.Exec(ctx, "CREATE SCHEMA "+postgres.QuoteIdent(t.Schema)); err != nil {
				return fmt.Errorf("create schema %q: %w", t.Schema, err)
			}
		}
		if _, err := tx.Exec(ctx, createMarker); err != nil {
			return fmt.Errorf("create %s: %w", MarkerTable, err)
		}
		if !state.SchemaExists {
			return t.Mark(ctx, tx, KindSchema, t.Schema, nil)
		}
		return nil
	})
}

// record brings the marker's tables and publication to what stands after a step, within the step's transaction.
func (t Target) record(tx *gorm.DB) error {
	err := tx.Exec(`INSERT INTO `+MarkerTable+` (kind, name, run_id, version)
		SELECT 'table', tablename, ?, ? FROM pg_tables WHERE schemaname = current_schema() AND tablename IN ?
		UNION ALL SELECT 'publication', pubname, ?, ? FROM pg_publication WHERE pubname = ?
		ON CONFLICT DO NOTHING`, t.RunID, t.Version, tablesV1, t.RunID, t.Version, t.Publication).Error
	if err != nil {
		return fmt.Errorf("record the step's objects in %s: %w", MarkerTable, err)
	}
	return nil
}

// migrator makes a gormigrate over a transaction that the caller ends.
func (t Target) migrator(tx *gorm.DB) *gormigrate.Gormigrate {
	opts := *gormigrate.DefaultOptions
	opts.TableName = MigrationsTable
	return gormigrate.New(tx, &opts, steps(t.Publication))
}

// Down takes away everything that the marker lists in the database, in one transaction: all of it or nothing. A
// replication slot is not transactional and must be gone before. The caller holds the setup lock.
func (t Target) Down(ctx context.Context, db *postgres.DB) error {
	state, err := t.Inspect(ctx, db.Pool)
	if err != nil {
		return err
	}
	if err := t.MayDrop(state); err != nil {
		return err
	}
	if !state.Marker {
		return nil
	}
	if slots := state.Ours[KindSlot]; len(slots) > 0 {
		var slot string
		err := db.Pool.QueryRow(ctx, "SELECT slot_name FROM pg_replication_slots WHERE slot_name = ANY ($1) LIMIT 1", slots).Scan(&slot)
		if err == nil {
			return fmt.Errorf("replication slot %q of this shop still exists and would keep the WAL; run `cdcseed connector reset` first: %w",
				slot, postgres.ErrRefused)
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("look for the shop's replication slots: %w", err)
		}
	}
	status, err := t.Status(ctx, db)
	if err != nil {
		return err
	}
	err = db.Gorm.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tx.Exec(lockTimeout).Error; err != nil {
			return fmt.Errorf("set lock_timeout: %w", err)
		}
		m := t.migrator(tx)
		for _, s := range slices.Backward(status) {
			if !s.Applied {
				continue
			}
			if err := m.RollbackLast(); err != nil {
				return fmt.Errorf("roll back migration %s: %w", s.ID, err)
			}
		}
		drop := []string{"DROP TABLE IF EXISTS " + MigrationsTable, "DROP TABLE " + MarkerTable}
		if state.Lists(KindSchema, t.Schema) {
			drop = append(drop, "DROP SCHEMA "+postgres.QuoteIdent(t.Schema)) // fails rather than cascades
		}
		return execAll(drop)(tx)
	})
	if err != nil {
		return fmt.Errorf("take down schema %q: %w", t.Schema, err)
	}
	return nil
}

// Step is a migration and whether it is applied.
type Step struct {
	ID      string `json:"id"`
	Applied bool   `json:"applied"`
}

// Status lists all steps, oldest first.
func (t Target) Status(ctx context.Context, db *postgres.DB) ([]Step, error) {
	var exists bool
	err := db.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = $2)`,
		t.Schema, MigrationsTable).Scan(&exists)
	if err != nil {
		return nil, fmt.Errorf("look for %s in schema %q: %w", MigrationsTable, t.Schema, err)
	}
	applied := map[string]bool{}
	if exists {
		rows, _ := db.Pool.Query(ctx, "SELECT id FROM "+MigrationsTable)
		var id string
		if _, err := pgx.ForEachRow(rows, []any{&id}, func() error { applied[id] = true; return nil }); err != nil {
			return nil, fmt.Errorf("read %s in schema %q: %w", MigrationsTable, t.Schema, err)
		}
	}
	all := steps(t.Publication)
	out := make([]Step, len(all))
	for i, m := range all {
		out[i] = Step{ID: m.ID, Applied: applied[m.ID]}
	}
	return out, nil
}
