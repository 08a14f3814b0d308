package main

import (
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/cdcseed/cdcseed/metrics"
	"github.com/cdcseed/cdcseed/models"
	"github.com/cdcseed/cdcseed/workload"
)

// seedBar shows how far the seeding is: a bar on a terminal, a line each tenth elsewhere.
type seedBar struct {
	p      *program
	bar    *progressbar.ProgressBar
	tenths int
}

func (p *program) seedProgress() *seedBar { return &seedBar{p: p} }

func (b *seedBar) update(rows, of int) {
	if !b.p.terminal {
		if t := rows * 10 / of; t > b.tenths {
			b.tenths = t
			b.p.log.Info("seeding", "rows", rows, "percent", t*10)
		}
		return
	}
	if b.bar == nil {
		b.bar = progressbar.NewOptions(of, progressbar.OptionSetWriter(b.p.err), progressbar.OptionSetDescription("seeding"),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("rows"),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	b.bar.ChangeMax(of)
	_ = b.bar.Set(rows)
}

func (b *seedBar) finish() {
	if b.bar != nil {
		_ = b.bar.Finish()
	}
}

// plainInterval is the time between two progress lines where nobody watches a terminal.
const plainInterval = 10 * time.Second

// liveLine returns a printer of progress: a line a second on a terminal, one in ten seconds elsewhere.
func (p *program) liveLine() func(workload.Progress) {
	next := plainInterval
	return func(pr workload.Progress) {
		if !p.terminal && pr.Elapsed.Round(time.Second) < next {
			return
		}
		next += plainInterval
		target := "max"
		if pr.Target > 0 {
			target = fmt.Sprintf("%g", pr.Target)
		}
		_, _ = fmt.Fprintf(p.err, "%8s  target %s/s  now %.1f/s  behind %d  inserts %d  updates %d  deletes %d  errors %d\n",
			pr.Elapsed.Round(time.Second), target, pr.Achieved, pr.Behind, pr.Rows.Insert, pr.Rows.Update, pr.Rows.Delete, pr.Errors)
	}
}

// printReport prints the summary on stdout.
func (p *program) printReport(r *report, asJSON bool) error {
	if asJSON {
		return printJSON(p.out, r)
	}
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, seeded int, c metrics.Counts) {
		_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t\n", name, seeded, c.Insert, c.Update, c.Delete)
	}
	_, _ = fmt.Fprintln(w, "table\tseeded\tinserts\tupdates\tdeletes\t")
	sum := r.Workload
	seeded := 0
	for _, t := range models.ShopTables() {
		row(t.Name, r.Seeded[t.Name], sum.Tables[t.Name])
		seeded += r.Seeded[t.Name]
	}
	row("all", seeded, sum.Rows)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the summary: %w", err)
	}
	target := "as fast as possible"
	if sum.Target > 0 {
		target = fmt.Sprintf("target %g, ratio %.4f", sum.Target, sum.Ratio)
	}
	us := func(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
	_, _ = fmt.Fprintf(p.out, "\n%d row changes in %d transactions in %s: %.2f/s (%s)\n",
		sum.Rows.Total(), sum.Transactions, sum.Elapsed.Round(time.Millisecond), sum.Achieved, target)
	_, _ = fmt.Fprintf(p.out, "latency from the scheduled start: p50 %s, p95 %s, p99 %s, max %s\n",
		us(sum.Latency.P50), us(sum.Latency.P95), us(sum.Latency.P99), us(sum.Latency.Max))
	_, _ = fmt.Fprintf(p.out, "errors %d, retries %d, reconnects %d, commits settled after a cut %d\n",
		sum.Errors, sum.Retries, sum.Reconnects, sum.Settled)
	_, _ = fmt.Fprint(p.out, "operations:")
	for _, op := range slices.Sorted(maps.Keys(sum.Operations)) {
		_, _ = fmt.Fprintf(p.out, " %s %d", op, sum.Operations[op])
	}
	if ev := r.Events; ev != nil {
		var all eventCounts
		for _, table := range models.ShopTables() {
			c := ev.Tables[table.Name]
			all.Read, all.Create, all.Update, all.Delete = all.Read+c.Read, all.Create+c.Create, all.Update+c.Update, all.Delete+c.Delete
		}
		verdict := ""
		if ev.Equal != nil && *ev.Equal {
			verdict = ": exactly the rows above, table by table"
		}
		_, _ = fmt.Fprintf(p.out, "\nevents in the topics: %d r, %d c, %d u, %d d%s", all.Read, all.Create, all.Update, all.Delete, verdict)
	}
	_, _ = fmt.Fprintf(p.out, "\nrepeat with: --rand-seed %d --start-time %s\n", r.RandSeed, r.StartTime.UTC().Format(time.RFC3339Nano))
	return nil
}
