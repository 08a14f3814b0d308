// Package await stands beside the data's way and waits for the things on it: Postgres, Kafka and Kafka Connect may be
// slow to come up or go away for a while.
package await

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// ErrUnavailable marks a dependency that stayed away longer than the caller would wait.
var ErrUnavailable = errors.New("stayed away too long")

// Policy says how to wait.
type Policy struct {
	What    string           // named in the log: "Postgres at localhost:5432/fh_dev"
	MaxWait time.Duration    // 0: op is tried once
	Heals   func(error) bool // whether waiting may heal an error; nil: any
	Log     *slog.Logger     // hears of a wait of more than a moment, and of its end; nil: nobody
}

// moment is how long a wait goes unmentioned: a server that comes up is no news.
const moment = 2 * time.Second

// For runs op until it succeeds, fails with an error that waiting cannot heal, or the time is over, which is
// ErrUnavailable around the last error. Pauses grow from 50 ms to 2 s, with jitter.
func For[T any](ctx context.Context, p Policy, op func() (T, error)) (T, error) {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 50*time.Millisecond, 2*time.Second
	told, healing := false, false
	began := time.Now()
	limit := backoff.WithMaxElapsedTime(p.MaxWait)
	if p.MaxWait <= 0 {
		limit = backoff.WithMaxTries(1)
	}
	v, err := backoff.Retry(ctx, func() (T, error) {
		v, err := op()
		if healing = err != nil && (p.Heals == nil || p.Heals(err)); err != nil && !healing {
			return v, backoff.Permanent(err)
		}
		return v, err
	}, backoff.WithBackOff(b), limit, backoff.WithNotify(func(err error, _ time.Duration) {
		if !told && p.Log != nil && time.Since(began) > moment {
			told = true
			p.Log.Warn("waiting for "+p.What, "max_wait", p.MaxWait, "reason", err)
		}
	}))
	switch {
	case err == nil:
		if told {
			p.Log.Info(p.What + " answers")
		}
		return v, nil
	case ctx.Err() != nil:
		return v, context.Cause(ctx)
	case healing:
		return v, fmt.Errorf("%s %w (%s): %w", p.What, ErrUnavailable, p.MaxWait, err)
	}
	return v, err
}
