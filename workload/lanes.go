package workload

import (
	"context"
	"sync"
	"time"

	"github.com/cdcseed/cdcseed/shop"
)

// job is a planned transaction and when it was to start.
type job struct {
	shop.Transaction
	due time.Time
}

// lanes hands jobs to workers so that those of one shard run in the order planned, one at a time, and no worker waits
// while any other shard has work.
type lanes struct {
	room  chan struct{} // bounds the jobs waiting and under way
	ready chan int      // shards whose first job nobody works on yet

	mu      sync.Mutex
	waiting map[int][]job // by shard; the first of a busy shard's is under way
	closed  bool          // no put follows
}

func newLanes(bound int) *lanes {
	return &lanes{waiting: map[int][]job{}, ready: make(chan int, shop.Shards), room: make(chan struct{}, bound)}
}

// put queues a job; it waits for room and returns false if either context ends before there is any.
func (l *lanes) put(ctx, stop context.Context, j job) bool {
	select {
	case l.room <- struct{}{}:
	case <-ctx.Done():
		return false
	case <-stop.Done():
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting[j.Shard] = append(l.waiting[j.Shard], j)
	if len(l.waiting[j.Shard]) == 1 {
		l.ready <- j.Shard // never blocks: a shard is in it once at most
	}
	return true
}

// close says that no put follows; workers end when all jobs are done.
func (l *lanes) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.endIfDone()
}

func (l *lanes) endIfDone() {
	if l.closed && len(l.waiting) == 0 {
		close(l.ready)
	}
}

// work runs fn on the jobs until all are done after close, ctx ends, or fn fails.
func (l *lanes) work(ctx context.Context, fn func(job) error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case shard, ok := <-l.ready:
			if !ok {
				return nil
			}
			l.mu.Lock()
			j := l.waiting[shard][0]
			l.mu.Unlock()
			if err := fn(j); err != nil {
				return err
			}
			l.done(shard)
		}
	}
}

func (l *lanes) done(shard int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if rest := l.waiting[shard][1:]; len(rest) > 0 {
		l.waiting[shard] = rest
		l.ready <- shard
	} else {
		delete(l.waiting, shard)
		l.endIfDone()
	}
	<-l.room
}

// sleepUntil waits for a time; it returns false if either context ends before.
func sleepUntil(ctx, stop context.Context, t time.Time) bool {
	wait := time.Until(t)
	if wait <= 0 {
		return ctx.Err() == nil && stop.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-stop.Done():
	}
	return false
}
