package migrations

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cdcseed/cdcseed/postgres"
)

// Names of the two tables of our own bookkeeping. Neither is published nor captured.
const (
	MarkerTable     = "cdcseed_marker"
	MigrationsTable = "cdcseed_migrations"
)

// Kind says what sort of object a marker line is about.
type Kind string

// The kinds of objects that cdcseed makes.
const (
	KindSchema      Kind = "schema"
	KindTable       Kind = "table"
	KindPublication Kind = "publication"
	KindSlot        Kind = "slot"
	KindConnector   Kind = "connector"
	KindSeed        Kind = "seed" // name "shop": the seeding that was committed, with its parameters
	KindRun         Kind = "run"  // name "last": the latest workload's number
)

// createMarker is the record of what cdcseed made; dropping goes by it and by nothing else.
const createMarker = `CREATE TABLE ` + MarkerTable + ` (
	kind text NOT NULL,
	name text NOT NULL,
	run_id text NOT NULL,
	version text NOT NULL,
	details jsonb NOT NULL DEFAULT '{}',
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (kind, name)
)`

// Querier is what pools, connections and transactions of pgx have in common.
type Querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Mark records that cdcseed made an object, or replaces the record's details. details must render as a JSON object.
func (t Target) Mark(ctx context.Context, q Querier, kind Kind, name string, details any) error {
	if details == nil {
		details = struct{}{}
	}
	js, err := json.Marshal(details)
	if err != nil {
		return fmt.Errorf("render the marker's details of %s %s: %w", kind, name, err)
	}
	_, err = q.Exec(ctx, `INSERT INTO `+MarkerTable+` (kind, name, run_id, version, details) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (kind, name) DO UPDATE SET run_id = excluded.run_id, version = excluded.version, details = excluded.details`,
		kind, name, t.RunID, t.Version, string(js))
	if err != nil {
		return fmt.Errorf("record %s %s in %s: %w", kind, name, MarkerTable, err)
	}
	return nil
}

// Unmark removes a record.
func (t Target) Unmark(ctx context.Context, q Querier, kind Kind, name string) error {
	if _, err := q.Exec(ctx, `DELETE FROM `+MarkerTable+` WHERE kind = $1 AND name = $2`, kind, name); err != nil {
		return fmt.Errorf("remove %s %s from %s: %w", kind, name, MarkerTable, err)
	}
	return nil
}

// Details reads the details of a record into v; found is false when there is none.
func Details(ctx context.Context, q Querier, kind Kind, name string, v any) (found bool, err error) {
	var js []byte
	err = q.QueryRow(ctx, `SELECT details FROM `+MarkerTable+` WHERE kind = $1 AND name = $2`, kind, name).Scan(&js)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(js, v)
	}
	if err != nil {
		return false, fmt.Errorf("read %s %s from %s: %w", kind, name, MarkerTable, err)
	}
	return true, nil
}

// NextRun counts a workload's run and returns its number, from 1. The number salts the random source, so that a second
// run over the same shop with the same --rand-seed does not tell the first one's story again.
func (t Target) NextRun(ctx context.Context, q Querier) (int, error) {
	var n int
	err := q.QueryRow(ctx, `INSERT INTO `+MarkerTable+` (kind, name, run_id, version, details)
		VALUES ('run', 'last', $1, $2, '{"number": 1}')
		ON CONFLICT (kind, name) DO UPDATE SET run_id = excluded.run_id, version = excluded.version,
			details = jsonb_build_object('number', (`+MarkerTable+`.details->>'number')::int + 1)
		RETURNING (details->>'number')::int`, t.RunID, t.Version).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count the run in %s: %w", MarkerTable, err)
	}
	return n, nil
}

// State is what stands in the schema before anything is changed.
type State struct {
	SchemaExists bool
	Marker       bool              // cdcseed has worked here
	Ours         map[Kind][]string // what the marker lists
	Strangers    []string          // relations in the schema that the marker does not list
	Dependants   []string          // objects of others that depend on our tables: views, foreign keys
	Publication  bool              // one of the target's name exists in the database
}

// Lists reports whether the marker lists an object.
func (s State) Lists(kind Kind, name string) bool {
	for _, n := range s.Ours[kind] {
		if n == name {
			return true
		}
	}
	return false
}

// Inspect reads the state without changing anything.
func (t Target) Inspect(ctx context.Context, q Querier) (State, error) {
	s := State{Ours: map[Kind][]string{}}
	err := q.QueryRow(ctx, `SELECT to_regnamespace($1) IS NOT NULL,
		EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $2 AND c.relname = $3),
		EXISTS (SELECT FROM pg_publication WHERE pubname = $4)`,
		postgres.QuoteIdent(t.Schema), t.Schema, MarkerTable, t.Publication).Scan(&s.SchemaExists, &s.Marker, &s.Publication)
	if err != nil {
		return s, fmt.Errorf("look at schema %q: %w", t.Schema, err)
	}
	if s.Marker {
		rows, _ := q.Query(ctx, `SELECT kind, name FROM `+MarkerTable+` ORDER BY kind, name`)
		var kind, name string
		_, err := pgx.ForEachRow(rows, []any{&kind, &name}, func() error {
			s.Ours[Kind(kind)] = append(s.Ours[Kind(kind)], name)
			return nil
		})
		if err != nil {
			return s, fmt.Errorf("read %s in schema %q: %w", MarkerTable, t.Schema, err)
		}
	}
	ours := append([]string{}, s.Ours[KindTable]...)
	if s.Marker {
		ours = append(ours, MarkerTable, MigrationsTable)
	}
	// Sequences and indexes belong to tables; composite types and toast tables never stand alone.
	rows, _ := q.Query(ctx, `SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relname <> ALL ($2)
			AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_class o ON o.oid = d.refobjid
				WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND c.relkind = 'S' AND d.deptype IN ('a', 'i')
					AND o.relname = ANY ($2) AND o.relnamespace = n.oid)
		ORDER BY 1`, t.Schema, ours)
	if s.Strangers, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return s, fmt.Errorf("list the relations of schema %q: %w", t.Schema, err)
	}
	rows, _ = q.Query(ctx, `WITH ours AS (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = $1 AND c.relname = ANY ($2))
		SELECT DISTINCT format('%s %s.%s', CASE v.relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END, vn.nspname, v.relname)
		FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
			JOIN pg_class v ON v.oid = r.ev_class JOIN pg_namespace vn ON vn.oid = v.relnamespace
		WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid IN (TABLE ours) AND v.oid NOT IN (TABLE ours)
		UNION SELECT format('foreign key %s of %s', conname, conrelid::regclass) FROM pg_constraint
		WHERE contype = 'f' AND confrelid IN (TABLE ours) AND conrelid NOT IN (TABLE ours)
		UNION SELECT format('publication %s', p.pubname) FROM pg_publication_rel pr JOIN pg_publication p ON p.oid = pr.prpubid
		WHERE pr.prrelid IN (TABLE ours) AND p.pubname <> ALL ($3)
		ORDER BY 1`, t.Schema, ours, append([]string{}, s.Ours[KindPublication]...))
	if s.Dependants, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return s, fmt.Errorf("list what depends on the tables of schema %q: %w", t.Schema, err)
	}
	return s, nil
}

// MayCreate refuses to migrate into a schema where somebody else's relations stand and cdcseed has never been, and to
// take a publication that is not ours.
func (t Target) MayCreate(s State) error {
	switch {
	case !s.Marker && len(s.Strangers) > 0:
		return fmt.Errorf("schema %q holds relations that cdcseed did not make (%s); choose another with --schema: %w",
			t.Schema, strings.Join(s.Strangers, ", "), postgres.ErrRefused)
	case s.Publication && !s.Lists(KindPublication, t.Publication):
		return fmt.Errorf("publication %q exists and is not of this shop; choose another with --publication: %w",
			t.Publication, postgres.ErrRefused)
	}
	return nil
}

// MayDrop refuses to drop unless everything in the schema is ours and nothing of others depends on it.
func (t Target) MayDrop(s State) error {
	switch {
	case !s.Marker && len(s.Strangers) > 0:
		return t.MayCreate(s)
	case len(s.Strangers) > 0:
		return fmt.Errorf("schema %q holds relations that cdcseed did not make (%s); move or drop them first: %w",
			t.Schema, strings.Join(s.Strangers, ", "), postgres.ErrRefused)
	case len(s.Dependants) > 0:
		return fmt.Errorf("objects of others depend on the tables of schema %q (%s); drop them first: %w",
			t.Schema, strings.Join(s.Dependants, "; "), postgres.ErrRefused)
	}
	return nil
}
