package seed_test

import (
	"context"
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cdcseed/cdcseed/internal/pgtest"
	"github.com/cdcseed/cdcseed/models"
	"github.com/cdcseed/cdcseed/seed"
	"github.com/cdcseed/cdcseed/shop"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestSeededTablesAreSound(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t)
	counts := pgtest.Fill(t, db, 11, 10_000) // scale factor 0.1
	pgtest.CheckInvariants(t, db)
	for _, table := range models.Names(models.ShopTables()) {
		var n int
		if err := db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil || n != counts[table] || n == 0 {
			t.Errorf("%s holds %d rows, Load says %d (%v)", table, n, counts[table], err)
		}
	}
	rows, _ := db.Pool.Query(t.Context(), "SELECT status, count(*)::float8 / sum(count(*)) OVER () FROM orders GROUP BY 1")
	var status models.OrderStatus
	var share float64
	want := map[models.OrderStatus]float64{models.Processing: .20, models.Shipped: .30, models.Complete: .25, models.Cancelled: .15, models.Returned: .10}
	_, err := pgx.ForEachRow(rows, []any{&status, &share}, func() error {
		if math.Abs(share-want[status]) > .01 {
			t.Errorf("%s: share %.4f, want %.2f within a point", status, share, want[status])
		}
		delete(want, status)
		return nil
	})
	if err != nil || len(want) != 0 {
		t.Errorf("no orders that are %v (%v)", want, err)
	}
	var late int
	if err := db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM events WHERE created_at > $1", pgtest.Start).Scan(&late); err != nil || late != 0 {
		t.Errorf("%d events after the end of history (%v)", late, err)
	}
}

func TestSameSeedSameRows(t *testing.T) {
	t.Parallel()
	var sums []map[string]string
	for _, s := range []uint64{3, 3, 4} {
		db := pgtest.Open(t)
		pgtest.Fill(t, db, s, 200)
		sums = append(sums, pgtest.Checksums(t, db))
	}
	if !maps.Equal(sums[0], sums[1]) {
		t.Errorf("the same seed gives %v and %v", sums[0], sums[1])
	}
	if maps.Equal(sums[0], sums[2]) {
		t.Error("two seeds give the same rows")
	}
}

func TestEmptyShop(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t)
	if counts := pgtest.Fill(t, db, 1, 0); counts[models.TableUsers] != 0 || counts[models.TableProducts] != 1 {
		t.Errorf("a shop without users has %v", counts)
	}
}

// An interrupted or refused seeding leaves nothing.
func TestAllOrNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t)
	pgtest.Migrate(t, db)
	if _, err := db.Pool.Exec(t.Context(), "ALTER TABLE order_items ADD CHECK (id < 500)"); err != nil {
		t.Fatal(err)
	}
	cfg := shop.HistoryConfig{Seed: 1, Start: pgtest.Start, Users: 2000, Products: 10}
	err := pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) error {
		_, err := seed.Load(t.Context(), tx, cfg, nil)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "rows into order_items") {
		t.Fatalf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) error {
		_, err := seed.Load(ctx, tx, cfg, func(rows, _ int) {
			if rows > 1000 {
				cancel()
			}
		})
		return err
	})
	if err == nil {
		t.Fatal("a cancelled seeding succeeds")
	}
	err = pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) error {
		empty, err := seed.Empty(t.Context(), tx)
		if !empty {
			t.Error("rows are left")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func BenchmarkLoad(b *testing.B) {
	db := pgtest.Open(b)
	pgtest.Migrate(b, db)
	b.ReportAllocs()
	rows := 0
	for b.Loop() {
		tx, err := db.Pool.Begin(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		counts, err := seed.Load(b.Context(), tx, shop.HistoryConfig{Seed: 1, Start: pgtest.Start, Users: 2000, Products: 500, GhostRatio: .5}, nil)
		if err != nil {
			b.Fatal(err)
		}
		for _, n := range counts {
			rows += n
		}
		if err := tx.Rollback(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}
