package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cdcseed/cdcseed/internal/pgtest"
	"github.com/cdcseed/cdcseed/internal/stacktest"
	"github.com/cdcseed/cdcseed/models"
)

// asProgram makes the test binary behave as the program, for tests that need a process of its own.
const asProgram = "CDCSEED_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	pgtest.Main(m)
}

// postgresArgs is a `run` that needs Postgres only.
func (p *place) postgresArgs(more ...string) []string {
	args := append([]string{"run"}, p.databaseArgs()...)
	return append(append(args, "--no-create-topic", "--json", "--init-users", "60", "--init-products", "20"), more...)
}

func (p *place) refused(wantCode int, says []string, args ...string) {
	p.t.Helper()
	code, out, errOut := cdcseed(p.t, args...)
	if code != wantCode {
		p.t.Errorf("exit %d, want %d", code, wantCode)
	}
	for _, s := range says {
		if !strings.Contains(errOut, s) {
			p.t.Errorf("message %q does not say %q", errOut, s)
		}
	}
	if strings.Contains(out+errOut, "transactions in") {
		p.t.Error("it ran")
	}
}

func TestIfExists(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	first := p.mustRun(p.postgresArgs("--max-iter", "50", "--avg-qps", "0")...)
	if first.Workload.Transactions != 50 || first.Seeded[models.TableUsers] != 60 {
		t.Errorf("%+v", first)
	}
	sums := pgtest.Checksums(t, p.db)
	// fail is the default, and touches nothing.
	p.refused(exitRefused, []string{"users", "--if-exists append", "--if-exists replace"}, p.postgresArgs("--max-iter", "50")...)
	for table, sum := range pgtest.Checksums(t, p.db) {
		if sum != sums[table] {
			t.Errorf("%s was touched", table)
		}
	}
	// append changes what its summary says and nothing else: above all it seeds no more and repeats no update.
	second := p.mustRun(p.postgresArgs("--if-exists", "append", "--max-iter", "1", "--avg-qps", "0")...)
	if len(second.Seeded) != 0 || second.Workload.Transactions != 1 {
		t.Errorf("%+v", second)
	}
	changed := 0
	for table, sum := range pgtest.Checksums(t, p.db) {
		if sum != sums[table] {
			changed++
			if c := second.Workload.Tables[table]; c.Total() == 0 {
				t.Errorf("%s changed beyond the summary", table)
			}
		}
	}
	if changed == 0 {
		t.Error("append changed nothing")
	}
	third := p.mustRun(p.postgresArgs("--if-exists", "replace", "--max-iter", "1", "--avg-qps", "0")...)
	if third.Run != 1 || third.Seeded[models.TableUsers] != 60 {
		t.Errorf("%+v", third)
	}
	pgtest.CheckInvariants(t, p.db)
}

// A seed, a start time and a number of transactions decide every row, whatever the number of workers.
func TestRunRepeats(t *testing.T) {
	t.Parallel()
	var sums []map[string]string
	for _, workers := range []string{"1", "8"} {
		p := newPlace(t)
		p.mustRun(p.postgresArgs("--rand-seed", "5", "--start-time", "2026-03-01T00:00:00Z", "--max-iter", "300", "--avg-qps", "0", "--workers", workers)...)
		sums = append(sums, pgtest.Checksums(t, p.db))
	}
	for table := range sums[0] {
		if sums[0][table] != sums[1][table] {
			t.Errorf("%s differs: %s and %s", table, sums[0][table], sums[1][table])
		}
	}
}

func TestStrangersTable(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"before", "beside"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			exec := func(sql string) {
				t.Helper()
				if _, err := p.db.Pool.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}
			if when == "beside" {
				p.mustRun(p.postgresArgs("--max-iter", "1", "--avg-qps", "0")...)
			} else {
				exec("CREATE SCHEMA " + p.cfg.Schema)
			}
			exec("CREATE TABLE precious (id int)")
			exec("INSERT INTO precious VALUES (1)")
			for _, args := range [][]string{p.postgresArgs("--if-exists", "replace"), append([]string{"migrate", "down"}, p.databaseArgs()...)} {
				p.refused(exitRefused, []string{"precious", p.cfg.Schema}, args...)
			}
			var n int
			if err := p.db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM precious").Scan(&n); err != nil || n != 1 {
				t.Errorf("%d rows, %v", n, err)
			}
			var tables int
			if err := p.db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_tables WHERE schemaname = $1", p.cfg.Schema).Scan(&tables); err != nil ||
				tables != map[string]int{"before": 1, "beside": 11}[when] {
				t.Errorf("%d tables, %v", tables, err)
			}
		})
	}
}

func TestMissingServers(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	db := p.databaseArgs()
	db = db[:len(db)-2] // without --max-wait
	with := func(more ...string) []string { return append(append([]string{"run"}, db...), more...) }
	// Nothing listens on port 1.
	p.refused(exitUnavailable, []string{"Postgres at 127.0.0.1:1/", "stayed away too long", "try: "},
		"run", "--host", "127.0.0.1", "--port", "1", "--max-wait", "100ms", "--no-create-topic")
	p.refused(exitUnavailable, []string{"Kafka at localhost:1", "stayed away too long"}, with("--bootstrap-servers", "localhost:1", "--max-wait", "1s")...)
	p.refused(exitUnavailable, []string{"Kafka Connect at http://localhost:1", "stayed away too long"},
		with("--no-create-topic", "--connect-url", "http://localhost:1", "--max-wait", "1s")...)
	p.refused(exitUnfit, []string{"28P01", "--password"}, with("--no-create-topic", "--password", "hush")...)
	p.refused(exitUnfit, []string{"3D000", "--db"}, with("--no-create-topic", "--db", "no_such_database")...)
	p.refused(exitUnfit, []string{"no such connector"}, append([]string{"connector", "status", "--connect-url", stacktest.Connect(t), "--connector", "nobody"}, db...)...)
	var exists bool
	if err := p.db.Pool.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", p.cfg.Schema).Scan(&exists); err != nil || exists {
		t.Errorf("the schema was made although Kafka is away (%v)", err)
	}
}

// output collects what a process prints, and may be read meanwhile.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string { return string(o.Bytes()) }

func (o *output) Bytes() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.b.Bytes())
}

// start runs the program as a process of its own.
func start(t *testing.T, args ...string) (*exec.Cmd, *output, *output) {
	t.Helper()
	var out, errOut output
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, &out, &errOut
}

// waitFor waits until a query is true.
func (p *place) waitFor(query string, args ...any) {
	p.t.Helper()
	deadline := time.Now().Add(stacktest.Patience)
	for {
		var ok bool
		err := p.db.Pool.QueryRow(p.t.Context(), query, args...).Scan(&ok)
		if err == nil && ok {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s does not come true: %v", query, err)
		}
		time.Sleep(20 * time.Millisecond) // polls a condition; the time itself decides nothing
	}
}

// growing waits until a workload has begun to change the seeded rows.
func (p *place) growing() {
	p.t.Helper()
	p.waitFor("SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'cdcseed_marker')", p.cfg.Schema)
	p.waitFor("SELECT EXISTS (SELECT FROM cdcseed_marker WHERE kind = 'run') AND (SELECT max(updated_at) > (SELECT (details->>'start_time')::timestamptz FROM cdcseed_marker WHERE kind = 'seed') FROM users)")
}

func TestSignalsDrain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sig  syscall.Signal
		code int
	}{{syscall.SIGINT, 130}, {syscall.SIGTERM, 143}} {
		t.Run(c.sig.String(), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			cmd, out, errOut := start(t, p.postgresArgs("--avg-qps", "200")...)
			p.growing()
			if err := cmd.Process.Signal(c.sig); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if cmd.ProcessState.ExitCode() != c.code {
				t.Errorf("exit %d, want %d: %s", cmd.ProcessState.ExitCode(), c.code, errOut)
			}
			var r report
			if err := json.Unmarshal(out.Bytes(), &r); err != nil || !r.Workload.Stopped || r.Workload.Transactions == 0 || r.Workload.Errors != 0 {
				t.Fatalf("summary %s: %v", out, err)
			}
			for _, table := range models.Names(models.ShopTables()) {
				var n int64
				c := r.Workload.Tables[table]
				if err := p.db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil || n != int64(r.Seeded[table])+c.Insert-c.Delete {
					t.Errorf("%s holds %d rows after %d seeded and %+v (%v)", table, n, r.Seeded[table], c, err)
				}
			}
		})
	}
}

// Before there is a workload to drain, the first signal ends the program.
func TestSignalWhileWaiting(t *testing.T) {
	t.Parallel()
	cmd, _, errOut := start(t, "run", "--host", "127.0.0.1", "--port", "1", "--max-wait", "1h", "--no-create-topic")
	logged := func() bool { return strings.Contains(errOut.String(), "waiting for Postgres") }
	for deadline := time.Now().Add(stacktest.Patience); !logged() && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond) // polls the log; the time itself decides nothing
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 143 || !strings.Contains(errOut.String(), "ended by terminated") {
		t.Errorf("exit %d: %s", cmd.ProcessState.ExitCode(), errOut)
	}
}

// A second start while the first one runs is refused, whatever it was asked to do, and the first one goes on.
func TestSecondStart(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	cmd, out, errOut := start(t, p.postgresArgs("--avg-qps", "100")...)
	p.growing()
	for _, what := range []string{"append", "replace", "fail"} {
		p.refused(exitRefused, []string{"another cdcseed", "pid"}, p.postgresArgs("--if-exists", what, "--max-iter", "5")...)
	}
	p.refused(exitRefused, []string{"another cdcseed", "pid"}, append([]string{"migrate", "down"}, p.databaseArgs()...)...)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || r.Workload.Errors != 0 {
		t.Errorf("the first start: %s, %s", out, errOut)
	}
}

// Two starts at the very same time: one of them does the work, the other is refused.
func TestTwoStartsAtOnce(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	type ended struct {
		i, code int
	}
	done := make(chan ended, 2)
	var cmds []*exec.Cmd
	var outs, errs []*output
	for i := range 2 {
		cmd, out, errOut := start(t, p.postgresArgs("--avg-qps", "50")...)
		cmds, outs, errs = append(cmds, cmd), append(outs, out), append(errs, errOut)
		go func() {
			_ = cmd.Wait()
			done <- ended{i, cmd.ProcessState.ExitCode()}
		}()
	}
	refused := <-done
	if refused.code != exitRefused || !strings.Contains(errs[refused.i].String(), "another cdcseed") {
		t.Errorf("exit %d: %s", refused.code, errs[refused.i])
	}
	p.growing()
	winner := 1 - refused.i
	if err := cmds[winner].Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if e := <-done; e.code != 143 {
		t.Errorf("the winner: exit %d: %s", e.code, errs[winner])
	}
	var r report
	if err := json.Unmarshal(outs[winner].Bytes(), &r); err != nil || r.Workload.Errors != 0 || r.Seeded[models.TableUsers] != 60 || r.Run != 1 {
		t.Errorf("the winner: %s (%v)", outs[winner], err)
	}
	pgtest.CheckInvariants(t, p.db)
}

func TestDryRunTouchesNothing(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	code, out, _ := cdcseed(t, p.postgresArgs("--dry-run", "--if-exists", "replace")...)
	if code != 0 || !strings.Contains(out, "would seed 60 users") {
		t.Errorf("exit %d, %s", code, out)
	}
	var exists bool
	if err := p.db.Pool.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", p.cfg.Schema).Scan(&exists); err != nil || exists {
		t.Errorf("a dry run made the schema (%v)", err)
	}
	p.mustRun(p.postgresArgs("--max-iter", "1", "--avg-qps", "0")...)
	sums := pgtest.Checksums(t, p.db)
	for _, args := range [][]string{p.postgresArgs("--dry-run", "--if-exists", "replace"), append([]string{"migrate", "down", "--dry-run"}, p.databaseArgs()...)} {
		if code, out, _ := cdcseed(t, args...); code != 0 || !strings.Contains(out, "would ") {
			t.Errorf("exit %d, %s", code, out)
		}
	}
	for table, sum := range pgtest.Checksums(t, p.db) {
		if sum != sums[table] {
			t.Errorf("a dry run touched %s", table)
		}
	}
}

func TestCommandsOneByOne(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	with := func(args ...string) []string { return append(args, p.databaseArgs()...) }
	must := func(args ...string) string {
		t.Helper()
		code, out, errOut := cdcseed(t, args...)
		if code != 0 {
			t.Fatalf("exit %d: %s", code, errOut)
		}
		return out
	}
	if out := must(with("migrate", "status")...); strings.Count(out, "pending") != 5 {
		t.Error(out)
	}
	p.refused(exitUnfit, []string{"42P01", "migrate up"}, with("seed")...)
	must(with("migrate", "up")...)
	if out := must(with("migrate", "status", "--json")...); strings.Count(out, `"applied": true`) != 5 {
		t.Error(out)
	}
	if out := must(with("seed", "--init-users", "30", "--init-products", "9", "--json")...); !strings.Contains(out, `"users": 30`) {
		t.Error(out)
	}
	p.refused(exitRefused, []string{"not empty"}, with("seed")...)
	must(with("migrate", "down")...)
	if out := must(with("migrate", "status")...); strings.Count(out, "pending") != 5 {
		t.Error(out)
	}
}

// The password that was given on the command line is not there for others to read.
func TestProcessTitle(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/cmdline"); err != nil {
		t.Skip("left out: no /proc here")
	}
	p := newPlace(t)
	cmd, _, errOut := start(t, p.postgresArgs("--avg-qps", "50")...)
	p.growing()
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid))
	if err != nil {
		t.Error(err)
	}
	if !bytes.Contains(line, []byte("--avg-qps")) || bytes.Contains(line, []byte("--password")) {
		t.Errorf("command line %q", line)
	}
	_ = cmd.Process.Signal(syscall.SIGINT)
	_ = cmd.Wait()
	if strings.Contains(errOut.String(), p.cfg.Conn.Password+" ") {
		t.Errorf("the password is in the log: %s", errOut)
	}
}

// TestRate is the issue's own measure: 50 row changes a second for a minute on the whole stack. The number of rows is
// exact; the time is told, not judged.
func TestRate(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("left out: a minute long")
	}
	stacktest.Connect(t)
	p := newPlace(t)
	stacktest.DropTopics(t, topicNames(p.prefix, p.cfg.Schema).All())
	stacktest.DropConnector(t, p.db, p.connector, p.slot)
	r := p.mustRun(p.runArgs("--avg-qps", "50", "--duration", "60s")...)
	sum := r.Workload
	t.Logf("%d rows in %s, ratio %.4f; latency p50 %s, p95 %s, p99 %s", sum.Rows.Total(), sum.Elapsed, sum.Ratio, sum.Latency.P50, sum.Latency.P95, sum.Latency.P99)
	if sum.Rows.Total() != 3000 || sum.Errors != 0 || sum.Elapsed < time.Minute {
		t.Errorf("%d rows, %d errors in %s", sum.Rows.Total(), sum.Errors, sum.Elapsed)
	}
	p.checkTopics(r.Seeded, r)
}

// Everything that a run made is found and taken away by replace even if Connect is asked for no more, and a slot that is
// read by somebody is not.
func TestReplaceWithoutConnect(t *testing.T) {
	t.Parallel()
	stacktest.Connect(t)
	p := newPlace(t)
	stacktest.DropTopics(t, topicNames(p.prefix, p.cfg.Schema).All())
	stacktest.DropConnector(t, p.db, p.connector, p.slot)
	p.mustRun(p.runArgs("--max-iter", "5", "--avg-qps", "0", "--init-users", "10", "--init-products", "5")...)
	p.waitFor("SELECT active FROM pg_replication_slots WHERE slot_name = $1", p.slot)
	p.refused(exitRefused, []string{p.slot, "--connect-url"}, p.postgresArgs("--if-exists", "replace", "--max-iter", "5")...)
	client := stacktest.Client(t)
	if err := client.Stop(context.WithoutCancel(t.Context()), p.connector); err != nil {
		t.Fatal(err)
	}
	p.refused(exitRefused, []string{p.slot, "connector reset"}, append([]string{"migrate", "down"}, p.databaseArgs()...)...)
	p.mustRun(p.postgresArgs("--if-exists", "replace", "--max-iter", "5", "--avg-qps", "0")...)
	if slot, err := p.db.Slot(t.Context(), p.slot); err != nil || slot.Exists {
		t.Errorf("the slot is left: %+v, %v", slot, err)
	}
}

// A slot or connector of somebody else's is not taken.
func TestForeignSlotAndConnector(t *testing.T) {
	t.Parallel()
	stacktest.Connect(t)
	p := newPlace(t)
	stacktest.DropTopics(t, topicNames(p.prefix, p.cfg.Schema).All())
	if _, err := p.db.Pool.Exec(t.Context(), "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", p.slot); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.db.DropSlot(context.WithoutCancel(t.Context()), p.slot, stacktest.Patience); err != nil {
			t.Error(err)
		}
	})
	for _, what := range []string{"fail", "append", "replace"} {
		p.refused(exitRefused, []string{p.slot, "not of this shop"}, p.runArgs("--if-exists", what)...)
	}
	// Another shop's connector under the name that we want.
	q := newPlace(t)
	stacktest.DropTopics(t, topicNames(q.prefix, q.cfg.Schema).All())
	stacktest.DropConnector(t, q.db, q.connector, q.slot)
	q.mustRun(q.runArgs("--max-iter", "1", "--avg-qps", "0", "--init-users", "5", "--init-products", "5")...)
	p.connector, p.slot = q.connector, q.slot+"x"
	p.refused(exitRefused, []string{q.connector, "not of this shop"}, p.runArgs()...)
}

// The database is restarted under a run, and a run whose database stays away ends by itself.
func TestDatabaseRestarts(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	cfg := pgtest.ConfigOf(t, server.DSN)
	p := &place{t: t, cfg: cfg, db: pgtest.OpenConfig(t, cfg), publication: pgtest.Name(t, "p")}
	cmd, out, errOut := start(t, p.postgresArgs("--avg-qps", "200", "--max-iter", "400")...)
	p.growing()
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || cmd.ProcessState.ExitCode() != exitOK {
		t.Fatalf("exit %d, %v: %s", cmd.ProcessState.ExitCode(), err, errOut)
	}
	if r.Workload.Transactions != 400 || r.Workload.Errors != 0 || r.Workload.Reconnects == 0 {
		t.Errorf("%+v", r.Workload)
	}
	pgtest.CheckInvariants(t, p.db)
	for _, table := range models.Names(models.ShopTables()) {
		var n int64
		c := r.Workload.Tables[table]
		if err := p.db.Pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil || n != int64(r.Seeded[table])+c.Insert-c.Delete {
			t.Errorf("%s holds %d rows after %d seeded and %+v (%v)", table, n, r.Seeded[table], c, err)
		}
	}

	args := p.postgresArgs("--if-exists", "append", "--avg-qps", "200", "--max-wait", "500ms")
	cmd, out, errOut = start(t, args...)
	p.waitFor("SELECT (details->>'number')::int = 2 FROM cdcseed_marker WHERE kind = 'run'")
	p.waitFor("SELECT count(*) > 1 FROM pg_stat_activity WHERE application_name = 'cdcseed' AND pid <> pg_backend_pid() AND query = 'COMMIT'")
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != exitUnavailable || !strings.Contains(errOut.String(), "stayed away too long") || !strings.Contains(errOut.String(), "try: ") {
		t.Errorf("exit %d: %s", cmd.ProcessState.ExitCode(), errOut)
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || r.Workload.Transactions == 0 {
		t.Errorf("the summary of what was done is missing: %s (%v)", out, err)
	}
}
