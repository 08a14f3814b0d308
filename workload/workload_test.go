package workload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cdcseed/cdcseed/internal/pgtest"
	"github.com/cdcseed/cdcseed/models"
	"github.com/cdcseed/cdcseed/postgres"
	"github.com/cdcseed/cdcseed/shop"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// never is a context that does not end: no signal comes.
var never = context.Background()

const patience = 15 * time.Minute

// bench is a seeded shop of a test's own.
type bench struct {
	db   *postgres.DB
	own  *postgres.Ownership
	shop *shop.Shop
}

func open(t testing.TB, cfg postgres.Config, users int) *bench {
	t.Helper()
	db := pgtest.OpenConfig(t, cfg)
	pgtest.Fill(t, db, 21, users)
	return &bench{db: db, own: own(t, db), shop: load(t, db, 1)}
}

func own(t testing.TB, db *postgres.DB) *postgres.Ownership {
	t.Helper()
	o, err := db.Own(t.Context(), 0, shop.Shards)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close(context.WithoutCancel(t.Context())) })
	return o
}

func load(t testing.TB, db *postgres.DB, run int) *shop.Shop {
	t.Helper()
	s, err := shop.New(shop.Config{Seed: 21, Run: run, Mix: shop.Mix{.5, .3, .2}, GhostRatio: .5, To: shop.Shards})
	if err != nil {
		t.Fatal(err)
	}
	if err := Load(t.Context(), db.Pool, s); err != nil {
		t.Fatal(err)
	}
	return s
}

// quick is a run at full speed whose rows do not depend on the clock.
func quick(transactions, workers int) Config {
	return Config{MaxIter: transactions, Workers: workers, MaxWait: patience, Logical: pgtest.Start}
}

func (b *bench) run(t testing.TB, cfg Config) (Summary, error) {
	t.Helper()
	return Run(t.Context(), never, b.db, b.own, b.shop, cfg, slog.New(slog.NewTextHandler(testWriter{t}, nil)))
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

// reference is what the tables hold after a run that nothing disturbed: with the same seed any other must end the same.
var reference = struct {
	sync.Once
	sums map[string]string
}{}

const referenceTransactions, referenceUsers = 600, 300

func undisturbed(t *testing.T) map[string]string {
	t.Helper()
	reference.Do(func() {
		b := open(t, pgtest.Config(t), referenceUsers)
		sum, err := b.run(t, quick(referenceTransactions, 1))
		if err != nil || sum.Transactions != referenceTransactions || sum.Errors+sum.Retries+sum.Reconnects != 0 {
			t.Fatalf("the undisturbed run: %+v, %v", sum, err)
		}
		pgtest.CheckInvariants(t, b.db)
		reference.sums = pgtest.Checksums(t, b.db)
	})
	if reference.sums == nil {
		t.Fatal("the undisturbed run failed")
	}
	return reference.sums
}

func expectSame(t *testing.T, b *bench) {
	t.Helper()
	want, got := undisturbed(t), pgtest.Checksums(t, b.db)
	for table := range want {
		if want[table] != got[table] {
			t.Errorf("%s: %s, undisturbed it is %s", table, got[table], want[table])
		}
	}
}

func TestWorkersDoNotMatter(t *testing.T) {
	t.Parallel()
	b := open(t, pgtest.Config(t), referenceUsers)
	sum, err := b.run(t, quick(referenceTransactions, 8))
	if err != nil || sum.Errors != 0 {
		t.Fatalf("%+v, %v", sum, err)
	}
	expectSame(t, b)
}

// What the summary counts is what the tables gained and lost, and a second run goes on from what it finds.
func TestCountsAndResume(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t)
	seeded := pgtest.Fill(t, db, 21, 300)
	o := own(t, db)
	left := map[string]int64{}
	for table, n := range seeded {
		left[table] = int64(n)
	}
	for run := 1; run <= 3; run++ {
		b := &bench{db: db, own: o, shop: load(t, db, run)}
		cfg := quick(400, 4)
		cfg.Logical = b.shop.Floor()
		sum, err := b.run(t, cfg)
		if err != nil || sum.Errors != 0 || sum.Transactions != 400 {
			t.Fatalf("run %d: %+v, %v", run, sum, err)
		}
		for table, c := range sum.Tables {
			left[table] += c.Insert - c.Delete
		}
		for table, want := range left {
			var n int64
			if err := db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil || n != want {
				t.Errorf("run %d: %s holds %d rows, the summaries leave %d (%v)", run, table, n, want, err)
			}
		}
		pgtest.CheckInvariants(t, db)
	}
}

// cutter cuts connections around COMMIT: half of the time before the server sees it, half of the time before we see its
// answer.
type cutter struct {
	mu     sync.Mutex
	r      *rand.Rand
	before atomic.Int64
	after  atomic.Int64
}

func (c *cutter) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &cutConn{Conn: conn, c: c}, nil
}

type cutConn struct {
	net.Conn
	c *cutter
}

// commitMessage is a simple query of COMMIT as it goes over the wire.
var commitMessage = []byte("Q\x00\x00\x00\x0bCOMMIT\x00")

func (c *cutConn) Write(p []byte) (int, error) {
	if !bytes.Contains(p, commitMessage) {
		return c.Conn.Write(p)
	}
	c.c.mu.Lock()
	dice := c.c.r.IntN(20)
	c.c.mu.Unlock()
	switch dice {
	case 0:
		c.c.before.Add(1)
		_ = c.Close()
		return 0, net.ErrClosed
	case 1:
		c.c.after.Add(1)
		n, err := c.Conn.Write(p)
		if err != nil {
			return n, err
		}
		// Half-closed: the server works on what it got, and we never hear of it.
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			_ = tcp.CloseRead()
		}
		return n, nil
	}
	return c.Conn.Write(p)
}

func TestExactlyOnceWhenCommitIsCutOff(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Config(t)
	plain := cfg
	b := open(t, plain, referenceUsers)
	cut := &cutter{r: rand.New(rand.NewPCG(1, 1))}
	cfg.Conn = cfg.Conn.Copy()
	cfg.Conn.DialFunc = cut.dial
	b.db = pgtest.OpenConfig(t, cfg)
	sum, err := b.run(t, quick(referenceTransactions, 4))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("cut before COMMIT %d times, after it %d times, settled %d", cut.before.Load(), cut.after.Load(), sum.Settled)
	if cut.before.Load() == 0 || cut.after.Load() == 0 || sum.Settled == 0 {
		t.Error("nothing was cut")
	}
	if sum.Errors != 0 || sum.Transactions != referenceTransactions {
		t.Errorf("%d errors, %d transactions", sum.Errors, sum.Transactions)
	}
	expectSame(t, b)
}

// A crashed server may hand out an id again: "committed" then speaks of another transaction, and only the row tells.
func TestSettleLooksAtTheRow(t *testing.T) {
	t.Parallel()
	b := open(t, pgtest.Config(t), 50)
	sql, err := newStatements()
	if err != nil {
		t.Fatal(err)
	}
	a := &applier{db: b.db, own: b.own, sql: sql, maxWait: patience, log: slog.New(slog.DiscardHandler)}
	defer a.hangUp(t.Context())
	var committed, aborted string
	if err := b.db.Pool.QueryRow(t.Context(), "SELECT pg_current_xact_id()::text").Scan(&committed); err != nil {
		t.Fatal(err)
	}
	tx, err := b.db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.QueryRow(t.Context(), "SELECT pg_current_xact_id()::text").Scan(&aborted); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := map[shop.Kind]bool{}
	for i := range 200 {
		step := b.shop.Next(pgtest.Start, -1)
		present, err := a.settle(t.Context(), &step, committed)
		if err != nil || present {
			t.Fatalf("%s (step %d) was never run, and is settled as %v (%v)", step.Op, i, present, err)
		}
		if present, err := a.settle(t.Context(), &step, "999999999999"); err != nil || present {
			t.Fatalf("a transaction of the future is settled as %v (%v)", present, err)
		}
		if present, err := a.settle(t.Context(), &step, aborted); err != nil || present {
			t.Fatalf("an aborted transaction is settled as %v (%v)", present, err)
		}
		if err := a.connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, xid, what, err := a.attempt(t.Context(), &step)
		if err != nil || what != applied {
			t.Fatalf("%s: %v, %v", step.Op, what, err)
		}
		present, err = a.settle(t.Context(), &step, xid)
		if err != nil || !present {
			t.Fatalf("%s (step %d) is in the tables, and is settled as %v (%v)", step.Op, i, present, err)
		}
		for _, c := range step.Changes {
			seen[c.Kind] = true
		}
	}
	if len(seen) != shop.Kinds {
		t.Errorf("kinds seen: %v", seen)
	}
}

// The server asks for some transactions again, and refuses others for good.
func TestConflictsAndRefusals(t *testing.T) {
	t.Parallel()
	trigger := func(t *testing.T, b *bench, table, body string) {
		t.Helper()
		for _, s := range []string{
			"CREATE SEQUENCE dice",
			"CREATE FUNCTION trip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN " + body + " RETURN new; END $$",
			"CREATE TRIGGER trip BEFORE INSERT ON " + table + " FOR EACH ROW EXECUTE FUNCTION trip()",
		} {
			if _, err := b.db.Pool.Exec(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Run("serialization failures", func(t *testing.T) {
		t.Parallel()
		b := open(t, pgtest.Config(t), referenceUsers)
		trigger(t, b, "events", "IF nextval('dice') % 53 = 0 THEN RAISE 'again' USING ERRCODE = '40001'; END IF;")
		sum, err := b.run(t, quick(referenceTransactions, 4))
		if err != nil || sum.Retries == 0 || sum.Errors != 0 {
			t.Fatalf("%d retries, %d errors, %v", sum.Retries, sum.Errors, err)
		}
		if _, err := b.db.Pool.Exec(t.Context(), "DROP FUNCTION trip CASCADE"); err != nil {
			t.Fatal(err)
		}
		expectSame(t, b)
	})
	t.Run("refusals", func(t *testing.T) {
		t.Parallel()
		b := open(t, pgtest.Config(t), referenceUsers)
		trigger(t, b, "order_items", "IF nextval('dice') % 3 = 0 THEN RAISE 'not today'; END IF;")
		sum, err := b.run(t, quick(referenceTransactions, 4))
		if err != nil || sum.Errors == 0 || sum.Errors+sum.Transactions != referenceTransactions {
			t.Fatalf("%d errors, %d transactions, %v", sum.Errors, sum.Transactions, err)
		}
		pgtest.CheckInvariants(t, b.db) // above all: no order without its items
	})
	t.Run("a conflict without end", func(t *testing.T) {
		t.Parallel()
		b := open(t, pgtest.Config(t), 50)
		trigger(t, b, "users", "RAISE 'again' USING ERRCODE = '40P01';")
		sum, err := b.run(t, quick(100, 2))
		if err != nil || sum.Errors == 0 || sum.Retries < maxRetries {
			t.Errorf("%d errors, %d retries, %v", sum.Errors, sum.Retries, err)
		}
	})
	t.Run("a missing table ends the run", func(t *testing.T) {
		t.Parallel()
		b := open(t, pgtest.Config(t), 50)
		if _, err := b.db.Pool.Exec(t.Context(), "ALTER TABLE events RENAME TO gone"); err != nil {
			t.Fatal(err)
		}
		if _, err := b.run(t, quick(-1, 4)); err == nil || !strings.Contains(err.Error(), `"events" does not exist`) {
			t.Errorf("error %v", err)
		}
	})
}

func TestDatabaseRestart(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	b := open(t, pgtest.ConfigOf(t, server.DSN), referenceUsers)
	cfg := quick(referenceTransactions, 4)
	began := make(chan struct{})
	var once sync.Once
	// Paced, so that the restart falls into the middle however fast the machine is.
	cfg.Rate = 400
	cfg.OnProgress = func(p Progress) {
		if p.Rows.Total() > 0 {
			once.Do(func() { close(began) })
		}
	}
	restarted := make(chan error, 1)
	go func() {
		<-began
		restarted <- errors.Join(server.Stop(t.Context()), server.Start(t.Context()))
	}()
	sum, err := b.run(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-restarted; err != nil {
		t.Fatal(err)
	}
	if sum.Reconnects == 0 || sum.Errors != 0 || sum.Transactions != referenceTransactions {
		t.Errorf("%d reconnects, %d errors, %d transactions", sum.Reconnects, sum.Errors, sum.Transactions)
	}
	pgtest.CheckInvariants(t, b.db)
	for table, c := range sum.Tables {
		var n int64
		if err := b.db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil || n == 0 {
			t.Errorf("%s holds %d rows after %+v (%v)", table, n, c, err)
		}
	}
}

func TestDatabaseGoneForGood(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	b := open(t, pgtest.ConfigOf(t, server.DSN), 50)
	cfg := quick(-1, 2)
	cfg.MaxWait = 100 * time.Millisecond
	var once sync.Once
	cfg.Rate = 200
	cfg.OnProgress = func(Progress) {
		once.Do(func() {
			if err := server.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	_, err := b.run(t, cfg)
	if err == nil || !strings.Contains(err.Error(), "stayed away too long") {
		t.Errorf("error %v", err)
	}
}

func TestSignals(t *testing.T) {
	t.Parallel()
	t.Run("the first lets transactions finish", func(t *testing.T) {
		t.Parallel()
		b := open(t, pgtest.Config(t), 50)
		stop, end := context.WithCancel(t.Context())
		cfg := quick(-1, 4)
		cfg.OnProgress = func(p Progress) {
			if p.Rows.Total() > 0 {
				end()
			}
		}
		sum, err := Run(t.Context(), stop, b.db, b.own, b.shop, cfg, slog.New(slog.DiscardHandler))
		if err != nil || !sum.Stopped || sum.Transactions == 0 || sum.Errors != 0 {
			t.Errorf("%+v, %v", sum, err)
		}
		pgtest.CheckInvariants(t, b.db)
	})
	t.Run("the second ends at once", func(t *testing.T) {
		t.Parallel()
		b := open(t, pgtest.Config(t), 50)
		ctx, end := context.WithCancelCause(t.Context())
		cause := errors.New("second signal")
		cfg := quick(-1, 4)
		cfg.OnProgress = func(Progress) { end(cause) }
		if _, err := Run(ctx, never, b.db, b.own, b.shop, cfg, slog.New(slog.DiscardHandler)); !errors.Is(err, cause) {
			t.Errorf("error %v", err)
		}
		pgtest.CheckInvariants(t, b.db)
	})
}

// A paced run of a set duration changes exactly the rows that are due, whatever the size of the transactions.
func TestPacedRunIsExact(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rate     float64
		duration time.Duration
		rows     int64
	}{{50, 3 * time.Second, 150}, {.5, 2 * time.Second, 1}, {333, 2 * time.Second, 666}} {
		b := open(t, pgtest.Config(t), 100)
		cfg := Config{Rate: c.rate, Duration: c.duration, MaxIter: -1, Workers: 4, MaxWait: patience}
		sum, err := b.run(t, cfg)
		if err != nil || sum.Rows.Total() != c.rows {
			t.Errorf("%v/s for %v: %d rows, want %d (%v)", c.rate, c.duration, sum.Rows.Total(), c.rows, err)
		}
		if sum.Elapsed < c.duration {
			t.Errorf("%v/s for %v: over after %v", c.rate, c.duration, sum.Elapsed)
		}
		t.Logf("%v/s for %v: ratio %.4f", c.rate, c.duration, sum.Ratio)
	}
}

func TestPacer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rate float64
		done int
		due  time.Duration
	}{
		{10, 0, 0}, {10, 1, 100 * time.Millisecond}, {10, 600, time.Minute}, {.1, 1, 10 * time.Second}, {0, 1000, 0}, {3, 3, time.Second},
	} {
		if got := (pacer{c.rate}).due(c.done); got != c.due {
			t.Errorf("rate %v after %d rows: due at %v, want %v", c.rate, c.done, got, c.due)
		}
	}
	for _, c := range []struct {
		rate   float64
		within time.Duration
		rows   int
	}{{10, time.Minute, 600}, {.1, 10 * time.Second, 1}, {0, time.Hour, 0}, {50, time.Minute, 3000}, {.3, 10 * time.Second, 3}} {
		if got := (pacer{c.rate}).rows(c.within); got != c.rows {
			t.Errorf("rate %v within %v: %d rows, want %d", c.rate, c.within, got, c.rows)
		}
	}
	// The schedule never drifts: what is due depends on the rows alone.
	p := pacer{7.3}
	for n := 1; n < 1_000_000; n *= 3 {
		if d := p.due(n).Seconds() * 7.3; d < float64(n)-.001 || d > float64(n)+.001 {
			t.Errorf("%d rows are due after %v rows' worth of time", n, d)
		}
	}
}

func TestLanesKeepTheOrderOfAShard(t *testing.T) {
	t.Parallel()
	l := newLanes(32)
	var mu sync.Mutex
	got := map[int][]int{}
	busy := map[int]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_ = l.work(t.Context(), func(j job) error {
				mu.Lock()
				if busy[j.Shard] {
					t.Errorf("two workers in shard %d", j.Shard)
				}
				busy[j.Shard] = true
				mu.Unlock()
				mu.Lock()
				got[j.Shard] = append(got[j.Shard], int(j.At.UnixNano()))
				busy[j.Shard] = false
				mu.Unlock()
				return nil
			})
		})
	}
	for i := range 5000 {
		if !l.put(t.Context(), never, job{Transaction: shop.Transaction{Shard: i * i % 7, At: time.Unix(0, int64(i))}}) {
			t.Fatal("no room")
		}
	}
	l.close()
	wg.Wait()
	sum := 0
	for shard, list := range got {
		sum += len(list)
		for i := 1; i < len(list); i++ {
			if list[i] <= list[i-1] {
				t.Fatalf("shard %d: %d after %d", shard, list[i], list[i-1])
			}
		}
	}
	if sum != 5000 {
		t.Errorf("%d jobs were done", sum)
	}
}

func TestLanesBoundAndEnd(t *testing.T) {
	t.Parallel()
	l := newLanes(2)
	stop, end := context.WithCancel(t.Context())
	for i := range 2 {
		if !l.put(t.Context(), stop, job{Transaction: shop.Transaction{Shard: i}}) {
			t.Fatal("no room for two")
		}
	}
	end()
	if l.put(t.Context(), stop, job{}) {
		t.Error("there is room for a third")
	}
	fail := errors.New("fail")
	if err := l.work(t.Context(), func(job) error { return fail }); !errors.Is(err, fail) {
		t.Errorf("error %v", err)
	}
}

func TestStatements(t *testing.T) {
	t.Parallel()
	c := shop.Change{Kind: shop.Update, Table: models.TableOrders, By: "order_id", Key: int64(1), Set: []shop.Column{{Name: "status"}, {Name: "updated_at"}}}
	if got, want := updateSQL(&c), `UPDATE "orders" SET "status" = $2, "updated_at" = $3 WHERE "order_id" = $1`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	c.Key = []int64{1, 2}
	if got, want := matches(&c), `"order_id" = ANY ($1)`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	s, err := newStatements()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.inserts[models.TableHeartbeat], `INSERT INTO "heartbeat" ("id", "ts") VALUES ($1, $2)`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if len(s.inserts) != len(models.Tables()) {
		t.Errorf("%d inserts", len(s.inserts))
	}
}

func BenchmarkRun(b *testing.B) {
	for _, workers := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			cfg := pgtest.Config(b)
			cfg.MaxConns = workers + 6
			s := open(b, cfg, 1000)
			b.ReportAllocs()
			b.ResetTimer()
			sum, err := s.run(b, quick(max(b.N, 1), workers))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(sum.Achieved, "rows/s")
		})
	}
}
