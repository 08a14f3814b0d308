// Package metrics stands beside the data's way and counts what the workload committed: rows by table and kind, latency
// from the scheduled start, errors and retries.
package metrics

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Counts are row changes by kind.
type Counts struct {
	Insert int64 `json:"insert"`
	Update int64 `json:"update"`
	Delete int64 `json:"delete"`
}

// Total is the sum over the kinds.
func (c Counts) Total() int64 { return c.Insert + c.Update + c.Delete }

// Add adds other to c.
func (c *Counts) Add(other Counts) {
	c.Insert += other.Insert
	c.Update += other.Update
	c.Delete += other.Delete
}

// Result is the outcome of one transaction.
type Result struct {
	Op         string
	Rows       map[string]Counts // by table; what the server says it changed
	Latency    time.Duration     // from the scheduled start to the acknowledged commit
	Retries    int               // times the server asked for the transaction again
	Reconnects int               // times the connection was lost under it
	Settled    bool              // the outcome of a COMMIT was unknown and had to be asked for
	Forced     bool              // the mix had to be set aside
	Failed     bool              // refused by the server; nothing of it is in the tables
}

// Latency is the distribution of the latencies; all but Max are within 0.1 percent.
type Latency struct {
	P50 time.Duration `json:"p50_ns"`
	P95 time.Duration `json:"p95_ns"`
	P99 time.Duration `json:"p99_ns"`
	Max time.Duration `json:"max_ns"`
}

// Totals are the counts so far.
type Totals struct {
	Transactions int64             `json:"transactions"`
	Rows         Counts            `json:"rows"`
	Tables       map[string]Counts `json:"tables"`
	Operations   map[string]int64  `json:"operations"`
	Errors       int64             `json:"errors"`
	Retries      int64             `json:"retries"`
	Reconnects   int64             `json:"reconnects"`
	Settled      int64             `json:"settled_commits"`
	Forced       int64             `json:"forced"`
	Latency      Latency           `json:"latency"`
}

// Recorder collects results; it is safe for concurrent use.
type Recorder struct {
	mu     sync.Mutex
	totals Totals
	hist   *hdrhistogram.Histogram
}

// longest is the longest latency told apart: a day, in microseconds.
const longest = int64(24 * time.Hour / time.Microsecond)

// NewRecorder makes an empty one.
func NewRecorder() *Recorder {
	return &Recorder{
		totals: Totals{Tables: map[string]Counts{}, Operations: map[string]int64{}},
		hist:   hdrhistogram.New(1, longest, 3),
	}
}

// Add counts a result.
func (r *Recorder) Add(res Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := &r.totals
	t.Retries += int64(res.Retries)
	t.Reconnects += int64(res.Reconnects)
	if res.Settled {
		t.Settled++
	}
	if res.Failed {
		t.Errors++
		return
	}
	if res.Forced {
		t.Forced++
	}
	t.Transactions++
	t.Operations[res.Op]++
	for table, c := range res.Rows {
		sum := t.Tables[table]
		sum.Add(c)
		t.Tables[table] = sum
		t.Rows.Add(c)
	}
	us := min(max(int64(res.Latency/time.Microsecond), 1), longest)
	_ = r.hist.RecordValue(us) // cannot be out of range
}

// Totals returns a copy of the counts.
func (r *Recorder) Totals() Totals {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.totals
	t.Tables = make(map[string]Counts, len(r.totals.Tables))
	for k, v := range r.totals.Tables {
		t.Tables[k] = v
	}
	t.Operations = make(map[string]int64, len(r.totals.Operations))
	for k, v := range r.totals.Operations {
		t.Operations[k] = v
	}
	at := func(q float64) time.Duration { return time.Duration(r.hist.ValueAtQuantile(q)) * time.Microsecond }
	t.Latency = Latency{P50: at(50), P95: at(95), P99: at(99), Max: time.Duration(r.hist.Max()) * time.Microsecond}
	return t
}

// Progress returns what a live line needs, without copying the rest.
func (r *Recorder) Progress() (rows Counts, errors int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.totals.Rows, r.totals.Errors
}
