package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cdcseed/cdcseed/debezium"
	"github.com/cdcseed/cdcseed/internal/stacktest"
	"github.com/cdcseed/cdcseed/models"
	"github.com/cdcseed/cdcseed/topics"
)

// demoArgs is a small demo on any free port.
func demoArgs(more ...string) []string {
	return append([]string{"demo", "--kafka-port", "0", "--json", "--init-users", "60", "--init-products", "20", "--heartbeat-interval", "1s"}, more...)
}

// The topics hold exactly what the tables went through, and nothing is left behind.
func TestDemo(t *testing.T) {
	t.Parallel()
	before, _ := filepath.Glob(filepath.Join(os.TempDir(), "cdcseed-demo-*"))
	code, out, errOut := cdcseed(t, demoArgs("--avg-qps", "100", "--duration", "5s", "--connector-schemas")...)
	if code != exitOK || !strings.Contains(errOut, "emulation of Debezium") {
		t.Fatalf("exit %d", code)
	}
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if r.Workload.Rows.Total() != 500 || r.Workload.Errors != 0 || r.Events == nil || r.Events.Equal == nil || !*r.Events.Equal {
		t.Errorf("%+v, events %+v", r.Workload, r.Events)
	}
	for _, table := range models.Names(models.ShopTables()) {
		got, rows := r.Events.Tables[table], r.Workload.Tables[table]
		if want := (eventCounts{int64(r.Seeded[table]), rows.Insert, rows.Update, rows.Delete, rows.Delete, 0}); got != want {
			t.Errorf("%s: events %+v, rows %+v", table, got, want)
		}
	}
	after, _ := filepath.Glob(filepath.Join(os.TempDir(), "cdcseed-demo-*"))
	for _, dir := range after {
		if !slices.Contains(before, dir) {
			if _, err := os.Stat(filepath.Join(dir, "owner")); err != nil {
				t.Errorf("%s is left behind", dir)
			}
		}
	}
}

// demoPlaces reads where a demo said to connect.
func demoPlaces(t *testing.T, errOut *output) (dsn, broker string) {
	t.Helper()
	psql := regexp.MustCompile(`PGPASSWORD=(\S+) psql -h (\S+) -p (\d+) -U (\S+) -d (\S+)`)
	tail := regexp.MustCompile(`--bootstrap-servers (\S+)`)
	for deadline := time.Now().Add(stacktest.Patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) { // polls the output
		s := errOut.String()
		if m, k := psql.FindStringSubmatch(s), tail.FindStringSubmatch(s); m != nil && k != nil {
			return fmt.Sprintf("user=%s password=%s host=%s port=%s dbname=%s sslmode=disable search_path=demo", m[4], m[1], m[2], m[3], m[5]), k[1]
		}
	}
	t.Fatalf("the demo does not say where to connect: %s", errOut)
	return "", ""
}

// A demo that is killed with its data folder kept goes on where it was, and nothing is lost: the rows that the topics tell of
// are the rows of the tables.
func TestKilledDemoLosesNothing(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "cdcseed-kept-") //nolint:usetesting // t.TempDir is closed to the user that Postgres runs as
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cmd, _, errOut := start(t, demoArgs("--avg-qps", "300", "--data-dir", dir)...)
	dsn, _ := demoPlaces(t, errOut)
	conf, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	query := func(sql string) (n int64) {
		conn, err := pgx.ConnectConfig(t.Context(), conf)
		if err != nil {
			return -1
		}
		defer func() { _ = conn.Close(t.Context()) }()
		if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			return -1
		}
		return n
	}
	for deadline := time.Now().Add(stacktest.Patience); query("SELECT count(*) FROM cdcseed_marker WHERE details->>'snapshot_done' = 'true'") < 1 || query("SELECT count(*) FROM users WHERE updated_at > now() - interval '2 seconds'") < 1; {
		if time.Now().After(deadline) {
			t.Fatalf("the demo does not get going: %s", errOut)
		}
		time.Sleep(20 * time.Millisecond) // polls a condition
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()

	// The second one changes next to nothing, so that tables and topics stand still.
	cmd, out, errOut := start(t, demoArgs("--avg-qps", "0.0001", "--data-dir", dir)...)
	dsn, broker := demoPlaces(t, errOut)
	if conf, err = pgx.ParseConfig(dsn); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(stacktest.Patience); query("SELECT count(*) FROM pg_replication_slots WHERE active AND confirmed_flush_lsn >= (SELECT pg_current_wal_lsn())") < 1; {
		if time.Now().After(deadline) {
			t.Fatalf("the slot does not catch up: %s", errOut)
		}
		time.Sleep(20 * time.Millisecond) // polls a condition
	}
	admin, err := topics.Dial(t.Context(), topics.Cluster{Brokers: []string{broker}}, stacktest.Patience, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	schemas, err := models.Schemas()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range models.Names(models.ShopTables()) {
		alive := map[string]bool{}
		events := 0
		err := admin.Consume(t.Context(), []string{"ecomm.demo." + table}, topics.Oldest, false, func(r topics.Record) error {
			events++
			ev, err := debezium.Decode(r.Key, r.Value)
			if err != nil {
				return err
			}
			if !ev.Tombstone {
				alive[fmt.Sprint(ev.Key[schemas[table].PrioritizedPrimaryField.DBName])] = ev.Envelope.Op != debezium.OpDelete
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var told int64
		for _, a := range alive {
			if a {
				told++
			}
		}
		if rows := query("SELECT count(*) FROM " + table); rows != told || events == 0 {
			t.Errorf("%s: %d rows, the %d events of the topic tell of %d", table, rows, events, told)
		}
	}
	if err := admin.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 130 {
		t.Errorf("exit %d: %s%s", cmd.ProcessState.ExitCode(), out, errOut)
	}
}

// What a killed demo leaves in a temporary folder is reaped by the next one.
func TestLeftOversAreReaped(t *testing.T) {
	t.Parallel()
	cmd, _, errOut := start(t, demoArgs("--avg-qps", "10")...)
	dsn, _ := demoPlaces(t, errOut)
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	conf, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	if code, _, _ := cdcseed(t, demoArgs("--duration", "1s")...); code != exitOK {
		t.Errorf("exit %d", code)
	}
	if conn, err := pgx.ConnectConfig(t.Context(), conf); err == nil {
		_ = conn.Close(t.Context())
		t.Error("the killed demo's Postgres still runs")
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	cmd, _, errOut := start(t, demoArgs("--avg-qps", "0.0001")...)
	_, broker := demoPlaces(t, errOut)
	defer func() { _ = cmd.Process.Signal(syscall.SIGINT); _ = cmd.Wait() }()
	var out string
	for deadline := time.Now().Add(stacktest.Patience); strings.Count(out, "\n") < 10 && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) { // polls
		var code int
		if code, out, _ = cdcseed(t, "tail", "--bootstrap-servers", broker, "--no-follow", "distribution_centers"); code != exitOK && code != exitUnfit {
			t.Fatalf("exit %d", code)
		}
	}
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 10 || !strings.Contains(out, "distribution_centers r id=1  latitude=") {
		t.Errorf("%d lines:\n%s", len(lines), out)
	}
	code, out, _ := cdcseed(t, "tail", "--bootstrap-servers", broker, "--no-follow", "--json", "distribution_centers")
	if code != exitOK || strings.Count(out, `"op":"r"`) != 10 {
		t.Errorf("exit %d: %s", code, out)
	}
	if code, _, e := cdcseed(t, "tail", "--bootstrap-servers", broker, "nothing"); code != exitUsage || !strings.Contains(e, "distribution_centers") {
		t.Errorf("exit %d: %s", code, e)
	}
}

func TestReadableEvents(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ key, value, want string }{
		{`{"id":1}`, `{"op":"u","before":{"id":1,"a":"x","b":null},"after":{"id":1,"a":"y","b":null}}`, "users                u id=1  a x → y"},
		{`{"id":1}`, `{"op":"c","after":{"id":1,"a":"x","n":1.50}}`, "users                c id=1  a=x n=1.50"},
		{`{"id":1}`, `{"op":"d","before":{"id":1}}`, "users                d id=1"},
		{`{"id":1}`, ``, "users                † id=1"},
		{`{"id":1}`, `junk`, "no change event"},
	} {
		var b strings.Builder
		r := topics.Record{Topic: "ecomm.demo.users", Key: []byte(c.key)}
		if c.value != "" {
			r.Value = []byte(c.value)
		}
		if err := (eventPrinter{w: &b}).readable(r); err != nil || !strings.Contains(b.String(), c.want) {
			t.Errorf("%s: %q (%v), want %q", c.value, b.String(), err, c.want)
		}
	}
}
