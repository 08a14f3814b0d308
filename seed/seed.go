// Package seed is the third station on the data's way: it loads the shop's history into the empty tables through COPY, all
// of it in one transaction, so that an interrupted seeding leaves nothing.
package seed

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/cdcseed/cdcseed/models"
	"github.com/cdcseed/cdcseed/shop"
)

// Sizes of the pieces in which rows are generated and copied; they bound the memory.
const (
	customersPerBatch = 500
	productsPerBatch  = 5000
)

// Progress hears how many rows are loaded of about how many.
type Progress func(rows, of int)

// Counts are the rows loaded, by table.
type Counts map[string]int

// Load copies the history into the tables within the transaction given; the caller commits. The tables are found through
// the search_path.
func Load(ctx context.Context, tx pgx.Tx, cfg shop.HistoryConfig, progress Progress) (Counts, error) {
	history, err := shop.NewHistory(cfg)
	if err != nil {
		return nil, err
	}
	maps, err := models.Mappings()
	if err != nil {
		return nil, err
	}
	l := &loader{tx: tx, maps: maps, counts: Counts{}, progress: progress, of: history.EstimatedRows() + cfg.Products}
	if err := load(ctx, l, models.TableDistributionCenters, history.Centers()); err != nil {
		return nil, err
	}
	for lo := 0; lo < cfg.Products; lo += productsPerBatch {
		if err := load(ctx, l, models.TableProducts, history.Products(lo, lo+productsPerBatch)); err != nil {
			return nil, err
		}
	}
	// One goroutine tells the next batch while the other copies the last.
	batches := make(chan *shop.Batch, 1)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(batches)
		for b := history.Next(customersPerBatch); b != nil; b = history.Next(customersPerBatch) {
			select {
			case batches <- b:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	g.Go(func() error {
		for b := range batches {
			err := errors.Join(
				load(ctx, l, models.TableUsers, b.Users), load(ctx, l, models.TableInventoryItems, b.Inventory),
				load(ctx, l, models.TableOrders, b.Orders), load(ctx, l, models.TableOrderItems, b.Items),
				load(ctx, l, models.TableEvents, b.Events))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return l.counts, nil
}

type loader struct {
	tx       pgx.Tx
	maps     map[string]*models.Mapping
	counts   Counts
	failed   bool
	progress Progress
	rows, of int
}

// load copies rows of one table. After a failure it does nothing: the transaction is lost.
func load[T any](ctx context.Context, l *loader, table string, rows []T) error {
	if l.failed || len(rows) == 0 {
		return nil
	}
	m := l.maps[table]
	buf := make([]any, 0, len(m.Columns)) // pgx is done with a row's values when it asks for the next
	n, err := l.tx.CopyFrom(ctx, pgx.Identifier{table}, m.Columns, pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) {
		buf = m.Append(buf[:0], &rows[i])
		return buf, nil
	}))
	if err != nil {
		l.failed = true
		return fmt.Errorf("copy %d rows into %s: %w", len(rows), table, err)
	}
	l.counts[table] += int(n)
	l.rows += int(n)
	if l.progress != nil {
		l.progress(l.rows, max(l.rows, l.of))
	}
	return nil
}

// Empty reports whether none of theLook's tables holds a row.
func Empty(ctx context.Context, tx pgx.Tx) (bool, error) {
	for _, t := range models.ShopTables() {
		var some bool
		if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+pgx.Identifier{t.Name}.Sanitize()+")").Scan(&some); err != nil {
			return false, fmt.Errorf("look whether table %s is empty: %w", t.Name, err)
		}
		if some {
			return false, nil
		}
	}
	return true, nil
}
