package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/cdcseed/cdcseed/internal/pgtest"
	"github.com/cdcseed/cdcseed/migrations"
	"github.com/cdcseed/cdcseed/models"
	"github.com/cdcseed/cdcseed/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

func setUp(t *testing.T, schema string) (*postgres.DB, migrations.Target) {
	t.Helper()
	cfg := pgtest.Config(t)
	if schema != "" {
		cfg.Schema = schema
	}
	db := pgtest.OpenConfig(t, cfg)
	target := migrations.Target{Schema: cfg.Schema, Publication: pgtest.Name(t, "p"), RunID: "test", Version: "test"}
	t.Cleanup(func() {
		_, _ = db.Pool.Exec(context.WithoutCancel(t.Context()), "DROP PUBLICATION IF EXISTS "+target.Publication)
	})
	return db, target
}

func up(t *testing.T, db *postgres.DB, target migrations.Target) []string {
	t.Helper()
	var applied []string
	err := db.WithSetup(t.Context(), nil, func(ctx context.Context) (err error) {
		applied, err = target.Up(ctx, db, quiet)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return applied
}

func down(t *testing.T, db *postgres.DB, target migrations.Target) error {
	t.Helper()
	return db.WithSetup(t.Context(), nil, func(ctx context.Context) error { return target.Down(ctx, db) })
}

func list(t *testing.T, db *postgres.DB, query string, args ...any) []string {
	t.Helper()
	rows, _ := db.Pool.Query(t.Context(), query, args...)
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return out
}

// catalog describes everything that the migrations make, without what differs from one making to the next.
func catalog(t *testing.T, db *postgres.DB, target migrations.Target) []string {
	t.Helper()
	out := list(t, db, `SELECT format('column %s.%s %s %s %s %s', c.relname, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull,
				coalesce(pg_get_expr(d.adbin, d.adrelid), '') || a.attidentity::text)
			FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
			WHERE c.relnamespace = $1::text::regnamespace AND c.relkind = 'r' AND a.attnum > 0
		UNION ALL SELECT format('constraint %s %s', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
			WHERE connamespace = $1::text::regnamespace
		UNION ALL SELECT format('index %s', indexdef) FROM pg_indexes WHERE schemaname = $2
		UNION ALL SELECT format('replica identity %s %s', relname, relreplident) FROM pg_class
			WHERE relnamespace = $1::text::regnamespace AND relkind = 'r'
		UNION ALL SELECT format('published %s', tablename) FROM pg_publication_tables WHERE pubname = $3
		UNION ALL SELECT format('sequence %s %s %s', sequencename, start_value, increment_by) FROM pg_sequences WHERE schemaname = $2
		ORDER BY 1`, postgres.QuoteIdent(target.Schema), target.Schema, target.Publication)
	return out
}

func TestUpDownUp(t *testing.T) {
	t.Parallel()
	db, target := setUp(t, "")
	if applied := up(t, db, target); len(applied) != 5 {
		t.Errorf("first up applied %v", applied)
	}
	first := catalog(t, db, target)
	if len(first) < 100 {
		t.Fatalf("the catalog has %d lines only", len(first))
	}
	if applied := up(t, db, target); len(applied) != 0 {
		t.Errorf("second up applied %v", applied)
	}
	if err := down(t, db, target); err != nil {
		t.Fatal(err)
	}
	state, err := target.Inspect(t.Context(), db.Pool)
	if err != nil || state.SchemaExists || state.Publication {
		t.Fatalf("after down: %+v, %v", state, err)
	}
	if err := down(t, db, target); err != nil {
		t.Errorf("down on nothing: %v", err)
	}
	up(t, db, target)
	if again := catalog(t, db, target); !slices.Equal(first, again) {
		t.Errorf("the catalog differs after down and up:\n%s", diff(first, again))
	}
}

func diff(a, b []string) string {
	var out []string
	for _, l := range a {
		if !slices.Contains(b, l) {
			out = append(out, "- "+l)
		}
	}
	for _, l := range b {
		if !slices.Contains(a, l) {
			out = append(out, "+ "+l)
		}
	}
	return strings.Join(out, "\n")
}

func TestModelsMatchTables(t *testing.T) {
	t.Parallel()
	db, target := setUp(t, "")
	up(t, db, target)
	schemas, err := models.Schemas()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range models.Tables() {
		s := schemas[table.Name]
		var want []string
		for _, column := range s.DBNames {
			f := s.FieldsByDBName[column]
			want = append(want, fmt.Sprintf("%s %s not null %v key %v", column, f.TagSettings["TYPE"], f.NotNull || f.PrimaryKey, f.PrimaryKey))
		}
		got := list(t, db, `SELECT format('%s %s not null %s key %s', a.attname, format_type(a.atttypid, a.atttypmod),
				CASE WHEN a.attnotnull THEN 'true' ELSE 'false' END, CASE WHEN i.indrelid IS NOT NULL THEN 'true' ELSE 'false' END)
			FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey)
			WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`, table.Name)
		if !slices.Equal(want, got) {
			t.Errorf("%s: model and table differ:\n%s", table.Name, diff(want, got))
		}
	}
	ours := append(models.Names(models.Tables()), migrations.MarkerTable, migrations.MigrationsTable)
	slices.Sort(ours)
	if got := list(t, db, "SELECT tablename FROM pg_tables WHERE schemaname = $1 ORDER BY 1", target.Schema); !slices.Equal(got, ours) {
		t.Errorf("tables %v, want %v", got, ours)
	}
	published := models.Names(models.Tables())
	slices.Sort(published)
	if got := list(t, db, "SELECT tablename FROM pg_publication_tables WHERE pubname = $1 ORDER BY 1", target.Publication); !slices.Equal(got, published) {
		t.Errorf("published %v, want %v", got, published)
	}
	if got := list(t, db, "SELECT relname FROM pg_class WHERE relnamespace = $1::text::regnamespace AND relkind = 'r' AND relreplident <> 'f' ORDER BY 1",
		target.Schema); !slices.Equal(got, []string{migrations.MarkerTable, migrations.MigrationsTable}) {
		t.Errorf("without full replica identity: %v", got)
	}
}

func TestTwoStartsAtOnce(t *testing.T) {
	t.Parallel()
	db, target := setUp(t, "")
	var g errgroup.Group
	results := make([][]string, 4)
	for i := range results {
		g.Go(func() error {
			return db.WithSetup(t.Context(), nil, func(ctx context.Context) (err error) {
				results[i], err = target.Up(ctx, db, quiet)
				return err
			})
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, r := range results {
		sum += len(r)
	}
	if sum != 5 {
		t.Errorf("each step is applied once, not %v", results)
	}
}

func TestOddSchemaName(t *testing.T) {
	t.Parallel()
	db, target := setUp(t, pgtest.Name(t, "My-Select_Shop"))
	up(t, db, target)
	steps, err := target.Status(t.Context(), db)
	if err != nil || len(steps) != 5 || !steps[4].Applied {
		t.Errorf("status %v, %v", steps, err)
	}
	if err := down(t, db, target); err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		before []string // before up
		after  []string // after it
		up     string   // what the error of up names; empty: it works
		down   string   // what the error of down names; empty: it works
	}{
		{
			name: "a stranger's table in a schema where we never were", up: "precious",
			before: []string{"CREATE SCHEMA {s}", "CREATE TABLE {s}.precious (id int)"},
		},
		{
			name: "a stranger's view in a schema where we never were", up: "glance",
			before: []string{"CREATE SCHEMA {s}", "CREATE VIEW {s}.glance AS SELECT 1"},
		},
		{
			name: "a stranger's publication of the name", up: "publication",
			before: []string{"CREATE PUBLICATION {p}"},
		},
		{
			name: "an empty schema of somebody's stays", before: []string{"CREATE SCHEMA {s}"},
		},
		{
			name: "a stranger's table beside ours", after: []string{"CREATE TABLE {s}.precious (id int)"}, down: "precious",
		},
		{
			name: "a view elsewhere on a table of ours", down: "watching",
			after: []string{"CREATE VIEW pg_temp.watching AS SELECT * FROM {s}.users"},
		},
		{
			name: "a foreign key to a table of ours", down: "foreign key",
			after: []string{"CREATE SCHEMA {s}_b", "CREATE TABLE {s}_b.notes (u bigint REFERENCES {s}.users)"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db, target := setUp(t, "")
			t.Cleanup(func() {
				_, _ = db.Pool.Exec(context.WithoutCancel(t.Context()), "DROP SCHEMA IF EXISTS "+target.Schema+"_b CASCADE")
			})
			// One connection, because a temporary view is gone with it.
			conn, err := db.Pool.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Release()
			exec := func(statements []string) {
				for _, s := range statements {
					s = strings.NewReplacer("{s}", target.Schema, "{p}", target.Publication).Replace(s)
					if _, err := conn.Exec(t.Context(), s); err != nil {
						t.Fatalf("%s: %v", s, err)
					}
				}
			}
			exec(c.before)
			before := list(t, db, "SELECT tablename FROM pg_tables WHERE schemaname = $1", target.Schema)
			_, err = target.Up(t.Context(), db, quiet)
			if c.up != "" {
				expectRefusal(t, err, c.up)
				if after := list(t, db, "SELECT tablename FROM pg_tables WHERE schemaname = $1", target.Schema); !slices.Equal(before, after) {
					t.Errorf("the refused up left %v, there were %v", after, before)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			exec(c.after)
			was := catalog(t, db, target)
			err = target.Down(t.Context(), db)
			if c.down == "" {
				if err != nil {
					t.Fatal(err)
				}
				if state, err := target.Inspect(t.Context(), db.Pool); err != nil || !state.SchemaExists || state.Marker {
					t.Errorf("after down: %+v, %v", state, err)
				}
				return
			}
			expectRefusal(t, err, c.down)
			if is := catalog(t, db, target); !slices.Equal(was, is) {
				t.Errorf("the refused down changed something:\n%s", diff(was, is))
			}
		})
	}
}

func expectRefusal(t *testing.T, err error, names string) {
	t.Helper()
	if !errors.Is(err, postgres.ErrRefused) || !strings.Contains(err.Error(), names) {
		t.Errorf("error %v, want a refusal that names %q", err, names)
	}
}

// A step that fails leaves what came before it, and nothing of itself.
func TestFailedStep(t *testing.T) {
	t.Parallel()
	db, target := setUp(t, "")
	up(t, db, target)
	// The last step is undone by hand and then made to fail: a publication of the name that is not ours.
	for _, s := range []string{
		"DROP PUBLICATION " + target.Publication,
		"DELETE FROM " + migrations.MigrationsTable + " WHERE id LIKE '%_publication'",
		"DELETE FROM " + migrations.MarkerTable + " WHERE kind = 'publication'",
		"ALTER TABLE events RENAME TO hidden",
	} {
		if _, err := db.Pool.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	applied, err := target.Up(t.Context(), db, quiet)
	if err == nil || len(applied) != 0 || !strings.Contains(err.Error(), "202611220005_publication") {
		t.Errorf("applied %v, %v", applied, err)
	}
	if _, err := db.Pool.Exec(t.Context(), "ALTER TABLE hidden RENAME TO events"); err != nil {
		t.Fatal(err)
	}
	if applied := up(t, db, target); len(applied) != 1 {
		t.Errorf("healed, up applied %v", applied)
	}
}
