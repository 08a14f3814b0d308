package workload

import "time"

// pacer is an open-loop schedule: a pure function of how many rows were planned. Time spent working is never added to a
// wait, so a late transaction makes none of the later ones late.
type pacer struct {
	rate float64 // row changes per second; 0: as fast as possible
}

// due returns when, after the start, the transaction that follows done rows is to start.
func (p pacer) due(done int) time.Duration {
	if p.rate == 0 {
		return 0
	}
	return time.Duration(float64(done) / p.rate * float64(time.Second))
}

// rows returns how many rows are due within a time: those whose own instant on the schedule lies before its end. The
// first is due at 0.
func (p pacer) rows(within time.Duration) int {
	if p.rate == 0 {
		return 0
	}
	return int(p.rate*within.Seconds() + .5)
}
