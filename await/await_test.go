package await_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cdcseed/cdcseed/await"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errAway   = errors.New("away")
	errBroken = errors.New("broken")
)

func TestFor(t *testing.T) {
	t.Parallel()
	heals := func(err error) bool { return errors.Is(err, errAway) }
	for _, c := range []struct {
		name   string
		wait   time.Duration
		errs   []error // of each try; nil after them
		want   error
		also   string
		tries  int
		atMost bool
	}{
		{name: "at once", wait: time.Hour, tries: 1},
		{name: "after two failures", wait: time.Hour, errs: []error{errAway, errAway}, tries: 3},
		{name: "what waiting cannot heal", wait: time.Hour, errs: []error{errAway, errBroken}, want: errBroken, tries: 2},
		{name: "no wait", errs: []error{errAway, errAway}, want: await.ErrUnavailable, also: "away", tries: 1},
		{name: "too long", wait: time.Nanosecond, errs: []error{errAway, errAway, errAway, errAway}, want: await.ErrUnavailable, also: "the thing", tries: 2, atMost: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tries := 0
			v, err := await.For(t.Context(), await.Policy{What: "the thing", MaxWait: c.wait, Heals: heals}, func() (int, error) {
				tries++
				if tries <= len(c.errs) {
					return 0, c.errs[tries-1]
				}
				return 7, nil
			})
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || (err == nil && v != 7) {
				t.Errorf("%d, %v; want %v", v, err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), c.also) {
				t.Errorf("error %v does not say %q", err, c.also)
			}
			if tries != c.tries && (!c.atMost || tries > c.tries) {
				t.Errorf("%d tries, want %d", tries, c.tries)
			}
		})
	}
}

func TestForEndsWithTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := await.For(ctx, await.Policy{What: "it", MaxWait: time.Hour}, func() (int, error) {
		cancel(errBroken)
		return 0, errAway
	})
	if !errors.Is(err, errBroken) {
		t.Errorf("error %v, want the context's cause", err)
	}
}
