package workload

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cdcseed/cdcseed/models"
	"github.com/cdcseed/cdcseed/shop"
)

// stride is shop.Stride for the queries below: ids in the residue 0 are rows that people inserted by hand.
var stride = strconv.Itoa(shop.Stride)

// Load fills a shop with what the tables hold, from one snapshot, and opens it. This is the only time that the workload
// reads the tables; it takes time and memory in proportion to them.
func Load(ctx context.Context, db pgxBeginner, s *shop.Shop) error {
	opts := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, db, opts, func(tx pgx.Tx) error {
		for _, read := range []func(context.Context, pgx.Tx, *shop.Shop) error{
			readProducts, readUsers, readOrders, readOrderItems, readPieces, readEvents,
		} {
			if err := read(ctx, tx, s); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the shop from the tables: %w", err)
	}
	return s.Open()
}

type pgxBeginner interface {
	BeginTx(ctx context.Context, opts pgx.TxOptions) (pgx.Tx, error)
}

func readProducts(ctx context.Context, tx pgx.Tx, s *shop.Shop) error {
	var p models.Product
	return each(ctx, tx, models.TableProducts, `SELECT id, cost, category, name, brand, retail_price, department, sku,
			distribution_center_id, updated_at FROM products ORDER BY id`,
		[]any{&p.ID, &p.Cost, &p.Category, &p.Name, &p.Brand, &p.RetailPrice, &p.Department, &p.SKU, &p.DistributionCenterID, &p.UpdatedAt},
		func() { s.AddProduct(p); s.Seen(p.UpdatedAt) })
}

func readUsers(ctx context.Context, tx pgx.Tx, s *shop.Shop) error {
	var u models.User
	var events int
	return each(ctx, tx, models.TableUsers, `SELECT id, city, postal_code, age, gender, first_name, updated_at, coalesce(n, 0)
		FROM users LEFT JOIN (SELECT user_id, count(*) n FROM events GROUP BY user_id) e ON e.user_id = id ORDER BY id`,
		[]any{&u.ID, &u.City, &u.PostalCode, &u.Age, &u.Gender, &u.FirstName, &u.UpdatedAt, &events},
		func() { s.AddUser(&u, events); s.Seen(u.UpdatedAt) })
}

func readOrders(ctx context.Context, tx pgx.Tx, s *shop.Shop) error {
	var id, user int64
	var status models.OrderStatus
	var updated time.Time
	// The oldest comes first out of its queue.
	return each(ctx, tx, models.TableOrders, `SELECT order_id, user_id, status, updated_at FROM orders ORDER BY updated_at, order_id`,
		[]any{&id, &user, &status, &updated}, func() { s.AddOrder(id, user, status); s.Seen(updated) })
}

func readOrderItems(ctx context.Context, tx pgx.Tx, s *shop.Shop) error {
	var id, order, piece, product int64
	var again bool
	return each(ctx, tx, models.TableOrderItems, `SELECT id, order_id, inventory_item_id, product_id,
			count(*) OVER (PARTITION BY inventory_item_id) > 1 FROM order_items ORDER BY id`,
		[]any{&id, &order, &piece, &product, &again}, func() { s.AddOrderItem(id, order, piece, product, again) })
}

func readPieces(ctx context.Context, tx pgx.Tx, s *shop.Shop) error {
	var id, product int64
	var sold, referenced bool
	var updated time.Time
	return each(ctx, tx, models.TableInventoryItems, `SELECT id, product_id, sold_at IS NOT NULL,
			EXISTS (SELECT FROM order_items o WHERE o.inventory_item_id = i.id), updated_at
		FROM inventory_items i ORDER BY id`,
		[]any{&id, &product, &sold, &referenced, &updated},
		func() { s.AddPiece(id, product, sold, referenced); s.Seen(updated) })
}

func readEvents(ctx context.Context, tx pgx.Tx, s *shop.Shop) error {
	var first, last int64
	var count int
	err := each(ctx, tx, models.TableEvents, `SELECT min(id), max(id), count(*) FROM events
		WHERE user_id IS NULL AND id % `+stride+` <> 0 GROUP BY session_id ORDER BY min(created_at), min(id)`,
		[]any{&first, &last, &count}, func() { s.AddGhost(first, last, count) })
	if err != nil {
		return err
	}
	var latest time.Time
	return each(ctx, tx, models.TableEvents, `SELECT max(id), max(created_at) FROM events WHERE id % `+stride+` <> 0 GROUP BY id % `+stride,
		[]any{&last, &latest}, func() { s.SeenEvent(last); s.Seen(latest) })
}

func each(ctx context.Context, tx pgx.Tx, table, query string, scans []any, fn func()) error {
	rows, _ := tx.Query(ctx, query)
	if _, err := pgx.ForEachRow(rows, scans, func() error { fn(); return nil }); err != nil {
		return fmt.Errorf("table %s: %w", table, err)
	}
	return nil
}
