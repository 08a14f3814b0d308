package workload

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cdcseed/cdcseed/metrics"
	"github.com/cdcseed/cdcseed/postgres"
	"github.com/cdcseed/cdcseed/shop"
)

// Config says how the workload runs.
type Config struct {
	Rate       float64       // row changes per second, all tables together; 0: as fast as possible
	MaxIter    int           // transactions; negative: no end
	Duration   time.Duration // 0: no end
	Workers    int           // 1 to shop.Shards
	MaxWait    time.Duration // how long a database that is away is waited for
	Logical    time.Time     // if not zero, rows carry times counted from here instead of the clock's, so that a run repeats
	OnProgress func(Progress)
}

// logicalStep is how far the logical clock moves per row at full speed: a rate beyond any server here, so that the rows'
// times stay behind the clock's.
const logicalStep = 10 * time.Microsecond

// queuedPerWorker bounds how far planning runs ahead of committing.
const queuedPerWorker = 8

// Progress is the state of a run, told once a second.
type Progress struct {
	Elapsed  time.Duration  `json:"elapsed_ns"`
	Target   float64        `json:"target_rate"`   // rows per second; 0: as fast as possible
	Achieved float64        `json:"achieved_rate"` // rows per second since the last report
	Behind   int64          `json:"behind"`        // rows that were due and are not committed yet
	Rows     metrics.Counts `json:"rows"`
	Errors   int64          `json:"errors"`
}

// Summary is the outcome of a run.
type Summary struct {
	metrics.Totals
	Elapsed  time.Duration `json:"elapsed_ns"`
	Target   float64       `json:"target_rate"`
	Achieved float64       `json:"achieved_rate"`
	Ratio    float64       `json:"ratio"` // achieved to target; 0 where there is no target
	Workers  int           `json:"workers"`
	Stopped  bool          `json:"stopped"` // ended by a signal, after a clean drain
}

// Run takes the shop's steps until the end that cfg sets, or until stop is done, which lets the transactions under way
// finish, or ctx is done, which does not. The summary tells what was committed, also with an error.
func Run(ctx, stop context.Context, db *postgres.DB, own *postgres.Ownership, s *shop.Shop, cfg Config, log *slog.Logger) (Summary, error) {
	sql, err := newStatements()
	if err != nil {
		return Summary{}, err
	}
	workers := min(max(cfg.Workers, 1), shop.Shards)
	r := &run{cfg: cfg, shop: s, pacer: pacer{rate: cfg.Rate}, rec: metrics.NewRecorder(), lanes: newLanes(workers * queuedPerWorker)}

	// A worker that fails ends the planning and the other workers, and is the cause.
	ctx, abandon := context.WithCancelCause(ctx)
	defer abandon(nil)

	var g errgroup.Group
	for range workers {
		a := &applier{db: db, own: own, sql: sql, maxWait: cfg.MaxWait, log: log}
		g.Go(func() error {
			defer a.hangUp(ctx)
			err := r.lanes.work(ctx, func(j job) error {
				res, err := a.apply(ctx, &j.Transaction)
				if err != nil {
					return err
				}
				res.Latency = time.Since(j.due)
				r.rec.Add(res)
				return nil
			})
			if err != nil {
				abandon(err)
			}
			return nil
		})
	}
	r.start = time.Now()
	reports, endReports := context.WithCancel(ctx)
	var reporter errgroup.Group
	reporter.Go(func() error {
		if err := r.report(reports, own); err != nil {
			abandon(err)
		}
		return nil
	})

	r.plan(ctx, stop)
	r.lanes.close()
	_ = g.Wait()
	// A run of a set duration lasts that long, also if its last row came earlier.
	if cfg.Duration > 0 && cfg.Rate > 0 && !r.cut {
		sleepUntil(ctx, stop, r.start.Add(cfg.Duration))
	}
	elapsed := time.Since(r.start)
	endReports()
	_ = reporter.Wait()

	sum := Summary{Totals: r.rec.Totals(), Elapsed: elapsed, Target: cfg.Rate, Workers: workers, Stopped: stop.Err() != nil}
	sum.Achieved = float64(sum.Rows.Total()) / elapsed.Seconds()
	if cfg.Rate > 0 {
		sum.Ratio = sum.Achieved / cfg.Rate
	}
	if ctx.Err() != nil {
		return sum, fmt.Errorf("workload: %w", context.Cause(ctx))
	}
	return sum, nil
}

// run is the state of one Run.
type run struct {
	cfg   Config
	shop  *shop.Shop
	pacer pacer
	rec   *metrics.Recorder
	lanes *lanes
	start time.Time
	cut   bool // planning ended for another reason than Duration
}

// plan takes the shop's steps on schedule and queues them.
func (r *run) plan(ctx, stop context.Context) {
	total := 0
	if r.cfg.Duration > 0 && r.cfg.Rate > 0 {
		// So many rows are due in the time given; the last transactions are chosen to fit, so that it ends exact.
		total = max(1, r.pacer.rows(r.cfg.Duration))
	}
	planned := 0
	for i := 0; r.cfg.MaxIter < 0 || i < r.cfg.MaxIter; i++ {
		budget := -1
		if total > 0 {
			if budget = total - planned; budget <= 0 {
				return
			}
		}
		after := r.pacer.due(planned)
		due := r.start.Add(after)
		if r.cfg.Rate == 0 {
			due = time.Now()
			if r.cfg.Duration > 0 && due.Sub(r.start) >= r.cfg.Duration {
				return
			}
		}
		if !sleepUntil(ctx, stop, due) {
			r.cut = true
			return
		}
		at := due
		if !r.cfg.Logical.IsZero() {
			if r.cfg.Rate == 0 {
				after = time.Duration(planned) * logicalStep
			}
			at = r.cfg.Logical.Add(after)
		}
		t := r.shop.Next(at, budget)
		planned += t.Size()
		if !r.lanes.put(ctx, stop, job{Transaction: t, due: due}) {
			r.cut = true
			return
		}
	}
	r.cut = true
}

// report tells the progress once a second and looks after the shards' locks, which may be lost while no transaction is.
func (r *run) report(ctx context.Context, own *postgres.Ownership) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var before int64
	last := r.start
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			// A lost connection is the workers' to wait for; a lock that somebody else has ends the run.
			if err := own.Ensure(ctx); err != nil && ctx.Err() == nil && !postgres.Lost(err) {
				return err
			}
			if r.cfg.OnProgress == nil {
				continue
			}
			rows, errs := r.rec.Progress()
			p := Progress{Elapsed: now.Sub(r.start), Target: r.cfg.Rate, Rows: rows, Errors: errs}
			p.Achieved = float64(rows.Total()-before) / now.Sub(last).Seconds()
			if r.cfg.Rate > 0 {
				due := r.pacer.rows(p.Elapsed)
				if r.cfg.Duration > 0 {
					due = min(due, r.pacer.rows(r.cfg.Duration))
				}
				p.Behind = max(0, int64(due)-rows.Total())
			}
			before, last = rows.Total(), now
			r.cfg.OnProgress(p)
		}
	}
}
