package pgtest

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cdcseed/cdcseed/migrations"
	"github.com/cdcseed/cdcseed/models"
	"github.com/cdcseed/cdcseed/postgres"
	"github.com/cdcseed/cdcseed/seed"
	"github.com/cdcseed/cdcseed/shop"
)

// Start is the end of history in tests.
var Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Migrate makes the tables, with a publication of the test's own.
func Migrate(t testing.TB, db *postgres.DB) {
	t.Helper()
	target := migrations.Target{Schema: db.Schema, Publication: Name(t, "p"), RunID: "test", Version: "test"}
	t.Cleanup(func() {
		_, _ = db.Pool.Exec(context.WithoutCancel(t.Context()), "DROP PUBLICATION IF EXISTS "+target.Publication)
	})
	if _, err := target.Up(t.Context(), db, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}

// Fill migrates and loads a small history that the seed alone decides.
func Fill(t testing.TB, db *postgres.DB, randSeed uint64, users int) seed.Counts {
	t.Helper()
	Migrate(t, db)
	var counts seed.Counts
	err := pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) (err error) {
		counts, err = seed.Load(t.Context(), tx, shop.HistoryConfig{
			Seed: randSeed, Start: Start, Users: users, Products: max(1, users/4), GhostRatio: .5,
		}, nil)
		return err
	})
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return counts
}

// Checksums returns a checksum of each table's rows: equal tables have equal ones.
func Checksums(t testing.TB, db *postgres.DB) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, table := range models.Names(models.ShopTables()) {
		var sum string
		err := db.Pool.QueryRow(t.Context(), fmt.Sprintf("SELECT count(*) || ' ' || coalesce(md5(string_agg(r::text, ';' ORDER BY r::text)), '') FROM %s r", table)).Scan(&sum)
		if err != nil {
			t.Fatalf("pgtest: checksum of %s: %v", table, err)
		}
		out[table] = sum
	}
	return out
}

// invariants are what must hold in the tables at any time: each query finds the rows that break a rule.
var invariants = map[string]string{
	"an order item stands where its order stands": `SELECT i.id FROM order_items i JOIN orders o USING (order_id)
		WHERE i.status <> o.status OR i.user_id <> o.user_id OR (i.shipped_at, i.delivered_at, i.returned_at) IS DISTINCT FROM (o.shipped_at, o.delivered_at, o.returned_at)`,
	"an order has as many items as it says": `SELECT order_id FROM orders o WHERE num_of_item <> (SELECT count(*) FROM order_items i WHERE i.order_id = o.order_id)`,
	"a piece is sold exactly while an order holds it": `SELECT i.id FROM inventory_items i WHERE (sold_at IS NOT NULL) <>
		EXISTS (SELECT FROM order_items o WHERE o.inventory_item_id = i.id AND status NOT IN ('Cancelled', 'Returned'))`,
	"a piece is held by one order at most": `SELECT inventory_item_id FROM order_items WHERE status NOT IN ('Cancelled', 'Returned')
		GROUP BY 1 HAVING count(*) > 1`,
	"the stations' times": `SELECT order_id FROM orders WHERE (shipped_at IS NOT NULL) <> (status IN ('Shipped', 'Complete', 'Returned'))
		OR (delivered_at IS NOT NULL) <> (status IN ('Complete', 'Returned')) OR (returned_at IS NOT NULL) <> (status = 'Returned')
		OR shipped_at < created_at OR delivered_at < shipped_at OR returned_at < delivered_at OR updated_at < greatest(created_at, shipped_at, delivered_at, returned_at)`,
	"no order is older than its user":         `SELECT order_id FROM orders o JOIN users u ON u.id = user_id WHERE o.created_at < u.created_at`,
	"no item is older than its order":         `SELECT i.id FROM order_items i JOIN orders o USING (order_id) WHERE i.created_at < o.created_at`,
	"no item is older than its piece":         `SELECT o.id FROM order_items o JOIN inventory_items i ON i.id = inventory_item_id WHERE o.created_at < i.created_at`,
	"no event is older than its user":         `SELECT e.id FROM events e JOIN users u ON u.id = user_id WHERE e.created_at < u.created_at`,
	"a visit's events come in their sequence": `SELECT id FROM (SELECT id, created_at < lag(created_at) OVER w AS back, sequence_number - lag(sequence_number, 1, 0) OVER w AS step FROM events WINDOW w AS (PARTITION BY session_id ORDER BY sequence_number)) e WHERE back OR step <> 1`,
	"no id of the residue for rows by hand":   `SELECT id FROM events WHERE id % 65 = 0 UNION ALL SELECT id FROM users WHERE id % 65 = 0 UNION ALL SELECT order_id FROM orders WHERE order_id % 65 = 0`,
	"nothing lies in the future": `SELECT id FROM events WHERE created_at > clock_timestamp() UNION ALL SELECT order_id FROM orders WHERE updated_at > clock_timestamp()
		UNION ALL SELECT id FROM users WHERE updated_at > clock_timestamp() UNION ALL SELECT id FROM inventory_items WHERE updated_at > clock_timestamp()`,
}

// CheckInvariants reports every rule that the tables break.
func CheckInvariants(t testing.TB, db *postgres.DB) {
	t.Helper()
	for rule, query := range invariants {
		rows, _ := db.Pool.Query(t.Context(), query)
		broken, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			t.Errorf("%s: %v in %s", rule, err, strings.Join(strings.Fields(query), " "))
		}
		if len(broken) > 0 {
			t.Errorf("%s: broken by %d rows, such as %v", rule, len(broken), broken[:min(len(broken), 5)])
		}
	}
}
