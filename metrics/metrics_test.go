package metrics_test

import (
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/cdcseed/cdcseed/metrics"
)

func TestRecorder(t *testing.T) {
	t.Parallel()
	r := metrics.NewRecorder()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 250 {
				r.Add(metrics.Result{
					Op: "visit", Rows: map[string]metrics.Counts{"events": {Insert: 2}, "users": {Update: 1}},
					Latency: time.Duration(i+1) * time.Millisecond, Retries: 1,
				})
			}
		})
	}
	wg.Wait()
	r.Add(metrics.Result{Op: "visit", Failed: true, Reconnects: 2, Rows: map[string]metrics.Counts{"events": {Insert: 99}}})
	r.Add(metrics.Result{Op: "ship", Settled: true, Forced: true, Rows: map[string]metrics.Counts{"orders": {Delete: 3}}, Latency: 48 * time.Hour})
	got := r.Totals()
	lat := got.Latency
	got.Latency = metrics.Latency{}
	want := metrics.Totals{
		Transactions: 1001, Rows: metrics.Counts{Insert: 2000, Update: 1000, Delete: 3}, Errors: 1, Retries: 1000, Reconnects: 2, Settled: 1, Forced: 1,
		Tables:     map[string]metrics.Counts{"events": {Insert: 2000}, "users": {Update: 1000}, "orders": {Delete: 3}},
		Operations: map[string]int64{"visit": 1000, "ship": 1},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	near := func(d, want time.Duration) bool { return d > want*99/100 && d < want*101/100 }
	if !near(lat.P50, 125*time.Millisecond) || !near(lat.P95, 238*time.Millisecond) || !near(lat.P99, 248*time.Millisecond) || !near(lat.Max, 24*time.Hour) {
		t.Errorf("%+v", lat)
	}
	if rows, errs := r.Progress(); rows.Total() != 3003 || errs != 1 {
		t.Errorf("%+v, %d", rows, errs)
	}
}
