package main

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"github.com/cdcseed/cdcseed/migrations"
	"github.com/cdcseed/cdcseed/models"
	"github.com/cdcseed/cdcseed/postgres"
	"github.com/cdcseed/cdcseed/seed"
	"github.com/cdcseed/cdcseed/shop"
)

func (p *program) seedCommand() *cli.Command {
	return &cli.Command{
		Name: "seed", Usage: "load the history into migrated, empty tables", Before: readConfig,
		Flags: concat(configFlag(), seedFlags(), databaseFlags(), jsonFlag()),
		Action: func(c *cli.Context) error {
			o, err := readDatabase(c)
			if err != nil {
				return err
			}
			h, err := readHistory(c, time.Now())
			if err != nil {
				return err
			}
			ctx := p.signals.untilStopped()
			return p.withDatabase(ctx, o, func(s *session) error {
				return s.setup(ctx, func(ctx context.Context) error {
					counts, err := s.seedIfEmpty(ctx, h)
					if err != nil {
						return err
					}
					if len(counts) == 0 {
						return fmt.Errorf("the tables of schema %q are not empty; `cdcseed run --if-exists replace` starts from zero: %w", s.db.Schema, postgres.ErrRefused)
					}
					if c.Bool("json") {
						return printJSON(p.out, map[string]any{"rand_seed": h.Seed, "start_time": h.Start, "seeded": counts})
					}
					return nil
				})
			})
		},
	}
}

// seedRecord is what the marker keeps of a seeding.
type seedRecord struct {
	RandSeed   uint64      `json:"rand_seed"`
	StartTime  time.Time   `json:"start_time"`
	Users      int         `json:"users"`
	Products   int         `json:"products"`
	GhostRatio float64     `json:"ghost_ratio"`
	Rows       seed.Counts `json:"rows"`
}

// seedIfEmpty loads the history if no table holds a row, in one transaction with its record in the marker. It returns the
// rows by table; none if there was nothing to do.
func (s *session) seedIfEmpty(ctx context.Context, h shop.HistoryConfig) (map[string]int, error) {
	counts := map[string]int{}
	began := time.Now()
	bar := s.p.seedProgress()
	err := pgx.BeginFunc(ctx, s.db.Pool, func(tx pgx.Tx) error {
		empty, err := seed.Empty(ctx, tx)
		if err != nil || !empty {
			return err
		}
		s.p.log.Info("seeding", "users", h.Users, "products", h.Products, "rand_seed", h.Seed, "until", h.Start.Format(time.RFC3339))
		rows, err := seed.Load(ctx, tx, h, bar.update)
		if err != nil {
			return err
		}
		maps.Copy(counts, rows)
		return s.target.Mark(ctx, tx, migrations.KindSeed, "shop", seedRecord{
			RandSeed: h.Seed, StartTime: h.Start, Users: h.Users, Products: h.Products, GhostRatio: h.GhostRatio, Rows: rows,
		})
	})
	bar.finish()
	if err != nil {
		return nil, fmt.Errorf("seed schema %q: %w", s.db.Schema, err)
	}
	total := 0
	for _, n := range counts {
		total += n
	}
	if total == 0 {
		s.p.log.Info("the tables hold rows; not seeded again")
		return counts, nil
	}
	// Fresh statistics, or the first queries would be planned for empty tables.
	for _, t := range models.ShopTables() {
		if _, err := s.db.Pool.Exec(ctx, "ANALYZE "+postgres.QuoteIdent(t.Name)); err != nil {
			return nil, fmt.Errorf("analyze table %s: %w", t.Name, err)
		}
	}
	took := time.Since(began)
	s.p.log.Info("seeded", "rows", total, "took", took.Round(time.Millisecond), "rows_per_second", int(float64(total)/took.Seconds()))
	return counts, nil
}
