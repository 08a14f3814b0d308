package emulator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cdcseed/cdcseed/debezium"
	"github.com/cdcseed/cdcseed/debezium/emulator"
	"github.com/cdcseed/cdcseed/internal/pgtest"
	"github.com/cdcseed/cdcseed/internal/stacktest"
	"github.com/cdcseed/cdcseed/models"
	"github.com/cdcseed/cdcseed/postgres"
	"github.com/cdcseed/cdcseed/shop"
	"github.com/cdcseed/cdcseed/topics"
	"github.com/cdcseed/cdcseed/workload"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

// rig is one seeded database with topics for a real connector and for an emulator.
type rig struct {
	t           *testing.T
	db          *postgres.DB
	cfg         postgres.Config
	publication string
}

func newRig(t *testing.T, users int) *rig {
	t.Helper()
	cfg := pgtest.Config(t)
	db := pgtest.OpenConfig(t, cfg)
	pgtest.Fill(t, db, 7, users)
	r := &rig{t: t, db: db, cfg: cfg}
	if err := db.Pool.QueryRow(t.Context(), "SELECT name FROM cdcseed_marker WHERE kind = 'publication'").Scan(&r.publication); err != nil {
		t.Fatal(err)
	}
	return r
}

// connector describes a connector of this rig and makes its topics, with one partition each, so that the order of all
// events of a table can be compared.
func (r *rig) connector(schemas bool) debezium.Connector {
	r.t.Helper()
	c := r.cfg.Conn
	conn := debezium.Connector{
		Name: pgtest.Name(r.t, "c"), Host: c.Host, Port: int(c.Port), Database: c.Database, User: c.User, Password: c.Password,
		TopicPrefix: pgtest.Name(r.t, "x"), Schema: r.cfg.Schema, Exclude: []string{"cdcseed_marker", "cdcseed_migrations"},
		Publication: r.publication, Slot: pgtest.Name(r.t, "l"), HeartbeatInterval: time.Second, Schemas: schemas,
	}
	names := topics.NamesOf(conn.TopicPrefix, conn.Schema, append(models.Names(models.Tables()), "kinds"))
	stacktest.DropTopics(r.t, names.All())
	if _, err := stacktest.Admin(r.t).Create(names, topics.Settings{Partitions: 1, Replication: 1}); err != nil {
		r.t.Fatal(err)
	}
	return conn
}

// emulate starts an emulator and returns when it is ready; stop ends it.
func (r *rig) emulate(conn debezium.Connector, snapshot *bool) (stop func()) {
	r.t.Helper()
	kafka, err := topics.Cluster{}.Config()
	if err != nil {
		r.t.Fatal(err)
	}
	e := emulator.New(emulator.Config{
		Conn: r.cfg.Conn, Connector: conn, Brokers: []string{stacktest.Kafka(r.t)}, Kafka: kafka,
		SnapshotDone: func(context.Context) (bool, error) { return *snapshot, nil },
		MarkSnapshot: func(context.Context) error { *snapshot = true; return nil },
	}, quiet)
	ctx, cancel := context.WithCancel(r.t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- e.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		r.t.Fatalf("the emulator ended at its start: %v", err)
	}
	var stopped bool
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("the emulator: %v", err)
		}
	}
	r.t.Cleanup(func() {
		stop()
		if err := r.db.DropSlot(context.WithoutCancel(r.t.Context()), conn.Slot, stacktest.Patience); err != nil {
			r.t.Error(err)
		}
	})
	return stop
}

// work lets the shop take some steps.
func (r *rig) work(run, transactions int) workload.Summary {
	r.t.Helper()
	own, err := r.db.Own(r.t.Context(), 0, shop.Shards)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = own.Close(r.t.Context()) }()
	s, err := shop.New(shop.Config{Seed: 7, Run: run, Mix: shop.Mix{.4, .3, .3}, GhostRatio: .5, To: shop.Shards})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := workload.Load(r.t.Context(), r.db.Pool, s); err != nil {
		r.t.Fatal(err)
	}
	sum, err := workload.Run(r.t.Context(), context.Background(), r.db, own, s,
		workload.Config{MaxIter: transactions, Workers: 4, MaxWait: stacktest.Patience}, quiet)
	if err != nil || sum.Errors != 0 {
		r.t.Fatalf("%+v, %v", sum, err)
	}
	return sum
}

// script are the odd cases.
var script = []string{
	"INSERT INTO distribution_centers (id, name, latitude, longitude) VALUES (65, 'Ghent', 51.05, 3.72)",
	"UPDATE distribution_centers SET name = 'Bruges <&> \"quoted\" \\ é ' WHERE id = 65",
	"UPDATE distribution_centers SET id = 130 WHERE id = 65",
	"DELETE FROM distribution_centers WHERE id = 130",
	"INSERT INTO distribution_centers (id, name, latitude, longitude) VALUES (195, '', '-Infinity', 1e-300), (260, 'n', 'NaN', 12345678.9), (325, 'o', 0.00012, 100)",
	"INSERT INTO users (id, first_name, last_name, email, age, gender, state, street_address, postal_code, city, country, latitude, longitude, traffic_source, created_at, updated_at) " +
		"VALUES (65, E'a\\tb\\nc', repeat('long', 5000), 'z@example.com', -2147483648, 'F', '', '', '', '', '', 0, -0.001, 'Search', '1999-12-31 23:59:59.999999Z', '0001-01-01 00:00:00Z')",
	"UPDATE users SET age = 2147483647 WHERE id = 65", // leaves a TOAST value as it is
	"BEGIN; UPDATE users SET age = 1 WHERE id = 65; SAVEPOINT a; UPDATE users SET age = 2 WHERE id = 65; ROLLBACK TO a; UPDATE users SET age = 3 WHERE id = 65; COMMIT",
	"BEGIN; UPDATE users SET age = 9 WHERE id = 65; ROLLBACK",
	"INSERT INTO products (id, cost, category, name, brand, retail_price, department, sku, distribution_center_id) VALUES (65, 0, 'S', 'S', 'B', 99999999.99, 'Men', 'X', 195)",
	"UPDATE products SET cost = 0.10 WHERE id = 65",
	"TRUNCATE events",
	"INSERT INTO events (user_id, sequence_number, session_id, ip_address, city, state, postal_code, browser, traffic_source, uri, event_type, created_at) " +
		"VALUES (NULL, 1, '', '', '', '', '', '', '', '', '', '2026-01-01 00:00:00.1+02')",
}

// types is a table of the common types beyond those of the shop.
var types = []string{
	"CREATE TYPE mood AS ENUM ('sad', 'ok')",
	`CREATE TABLE kinds (id int PRIMARY KEY, small smallint, single real, flag boolean, vc varchar(20), fixed char(5), u uuid, j json, jb jsonb, raw bytea,
		d date, t time, tz timetz, ts timestamp, tsz timestamptz, iv interval, n numeric, n2 numeric(20,4), texts text[], ints int[], m mood,
		req boolean NOT NULL DEFAULT true, lim varchar(5) NOT NULL DEFAULT 'abc', cnt int NOT NULL DEFAULT 7)`,
	"ALTER TABLE kinds REPLICA IDENTITY FULL",
}

var typeRows = []string{
	`INSERT INTO kinds VALUES (1, 32767, 1.5, true, 'é"x', 'ab', '00112233-4455-6677-8899-aabbccddeeff', '{"a": [1, 2]}', '{"b":  1.50}', '\x00ff10',
		'2026-02-28', '23:59:59.999999', '23:59:59.5+02', '2026-01-02 03:04:05.6', '2026-01-02 03:04:05.6+02', '1 year 2 mons 3 days 04:05:06.7', 123456789012345678901234567890.123456789, 1.5,
		'{a,NULL,"b c"}', '{1,NULL,-3}', 'ok')`,
	"INSERT INTO kinds (id) VALUES (2)",
	`INSERT INTO kinds (id, small, single, flag, vc, d, t, ts, tsz, iv, n, n2, texts, ints, raw) VALUES (3, -32768, 1e-10, false, '', '0001-01-01', '00:00', '1970-01-01', '1900-01-01 00:00Z',
		'-1 day', 0.000, -0.0001, '{}', '{}', '')`,
	`INSERT INTO kinds (id, single, n) VALUES (4, 'NaN', 1e20)`,
	"UPDATE kinds SET flag = NOT flag, n = n + 1",
	"DELETE FROM kinds WHERE id = 2",
	"ALTER TABLE kinds ADD COLUMN extra text",
	"INSERT INTO kinds (id, extra) VALUES (5, 'new')",
	"UPDATE kinds SET extra = 'newer' WHERE id = 5",
}

// allowed are the differences between the two streams, by the path in the event. Everything else must be equal.
var allowed = map[string]string{
	"source.name":      "each has a prefix of its own",
	"ts_ms":            "when the event was made",
	"ts_us":            "when the event was made",
	"ts_ns":            "when the event was made",
	"schema names":     "they begin with the prefix",
	"snapshot place":   "each slot has its own starting point: source.ts_*, txId, lsn and sequence of op r",
	"data_collections": "END lists the tables in the order of a Java hash map",
	"first commit":     "source.sequence names the commit before, which the reader that started later may not have seen",
}

// TestDifferential runs one script, and some hundred steps of the shop, against the real Debezium and the emulator on the
// same database, and compares what they write, event by event.
func TestDifferential(t *testing.T) {
	t.Parallel()
	stacktest.Connect(t)
	for _, schemas := range []bool{false, true} {
		t.Run(fmt.Sprintf("schemas=%v", schemas), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 40)
			for _, s := range append(slices.Clone(types), "ALTER PUBLICATION "+r.publication+" ADD TABLE kinds", typeRows[0]) {
				if _, err := r.db.Pool.Exec(t.Context(), s); err != nil {
					t.Fatalf("%s: %v", s, err)
				}
			}
			realOne, copied := r.connector(schemas), r.connector(schemas)
			copied.HeartbeatInterval = 0 // one of them is enough to touch the heartbeat's table
			client := stacktest.Client(t)
			stacktest.DropConnector(t, r.db, realOne.Name, realOne.Slot)
			if err := client.Apply(t.Context(), realOne, true); err != nil {
				t.Fatal(err)
			}
			if err := client.WaitRunning(t.Context(), realOne.Name); err != nil {
				t.Fatal(err)
			}
			var snapshot bool
			stop := r.emulate(copied, &snapshot)
			stacktest.WaitStreamed(t, r.db, realOne.Slot) // its snapshot is over, so nothing below is in it
			for _, s := range append(slices.Clone(script), typeRows[1:]...) {
				if _, err := r.db.Pool.Exec(t.Context(), s); err != nil {
					t.Fatalf("%s: %v", s, err)
				}
			}
			r.work(1, 200)
			stacktest.WaitStreamed(t, r.db, realOne.Slot)
			stacktest.WaitStreamed(t, r.db, copied.Slot)
			stop()

			compared := 0
			for _, table := range append(models.Names(models.ShopTables()), "kinds") {
				want := stacktest.Read(t, realOne.TopicPrefix+"."+realOne.Schema+"."+table)
				got := stacktest.Read(t, copied.TopicPrefix+"."+copied.Schema+"."+table)
				compared += compare(t, table, neutral(t, want, realOne), neutral(t, got, copied))
			}
			want := transactions(t, stacktest.Read(t, realOne.TopicPrefix+".transaction"), realOne)
			got := transactions(t, stacktest.Read(t, copied.TopicPrefix+".transaction"), copied)
			compared += compare(t, "transaction", want, got)
			t.Logf("%d events compared; %d statements and 200 steps of the shop; differences allowed: %v", compared, len(script), slices.Sorted(maps.Keys(allowed)))
		})
	}
}

func compare(t *testing.T, topic string, want, got []string) int {
	t.Helper()
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			t.Errorf("%s: event %d differs:\nDebezium %s\nemulator %s", topic, i, want[i], got[i])
			return i
		}
	}
	if len(want) != len(got) {
		t.Errorf("%s: Debezium wrote %d events, the emulator %d", topic, len(want), len(got))
	}
	return len(want)
}

// neutral renders records without what they are allowed to differ in. The bytes are kept in their order: fields out of
// order are a difference.
func neutral(t *testing.T, list []stacktest.Record, c debezium.Connector) []string {
	t.Helper()
	out := make([]string, 0, len(list))
	prefix := strings.NewReplacer(c.TopicPrefix, "PREFIX")
	for _, rec := range list {
		if rec.Value == nil {
			out = append(out, prefix.Replace(string(rec.Key))+" tombstone")
			continue
		}
		e, err := debezium.Decode(rec.Key, rec.Value)
		if err != nil {
			t.Fatalf("%v in %s", err, rec.Value)
		}
		v := string(rec.Value)
		for _, ts := range []struct {
			name  string
			value int64
		}{{"ts_ms", e.Envelope.TsMs}, {"ts_us", e.Envelope.TsUs}, {"ts_ns", e.Envelope.TsNs}} {
			// The last of the name is the envelope's own.
			field := fmt.Sprintf(`"%s":%d`, ts.name, ts.value)
			if i := strings.LastIndex(v, field); i >= 0 {
				v = v[:i] + ts.name + v[i+len(field):]
			}
		}
		src := e.Envelope.Source
		if e.Envelope.Op == debezium.OpRead {
			for _, f := range []string{
				fmt.Sprintf(`"ts_ms":%d`, src.TsMs), fmt.Sprintf(`"ts_us":%d`, src.TsUs), fmt.Sprintf(`"ts_ns":%d`, src.TsNs),
				fmt.Sprintf(`"txId":%d`, src.TxID), fmt.Sprintf(`"lsn":%d`, src.LSN),
			} {
				name, _, _ := strings.Cut(f, ":")
				v = strings.Replace(v, f, name, 1)
			}
		}
		if e.Envelope.Op == debezium.OpRead || len(out) == 0 || strings.HasPrefix(src.Sequence, "[null") {
			v = strings.Replace(v, mustJSON(t, src.Sequence), "SEQUENCE", 1)
		}
		out = append(out, prefix.Replace(string(rec.Key)+" "+v))
	}
	return out
}

func mustJSON(t *testing.T, s string) string {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const listStart = `"data_collections":[`

// transactions renders the boundaries of transactions that hold more than the connector's own heartbeat.
func transactions(t *testing.T, list []stacktest.Record, c debezium.Connector) []string {
	t.Helper()
	prefix := strings.NewReplacer(c.TopicPrefix, "PREFIX")
	var out []string
	begins := map[string]string{}
	for _, rec := range list {
		b, err := debezium.DecodeTx(rec.Value)
		if err != nil {
			t.Fatal(err)
		}
		line := prefix.Replace(string(rec.Key) + " " + string(rec.Value))
		if i, j := strings.Index(line, listStart), strings.LastIndex(line, "]"); i >= 0 && j > i {
			list := strings.SplitAfter(line[i+len(listStart):j], "}")
			for k := range list {
				list[k] = strings.TrimPrefix(list[k], ",")
			}
			slices.Sort(list)
			line = line[:i] + strings.Join(list, ",") + line[j:]
		}
		if b.Status == "BEGIN" {
			begins[b.TxID()] = line
			continue
		}
		if len(b.DataCollections) == 1 && strings.HasSuffix(b.DataCollections[0].Name, ".heartbeat") {
			continue
		}
		out = append(out, begins[b.TxID()], line)
	}
	return out
}

// A stopped emulator goes on where it was: every change arrives, and none of another row's is lost.
func TestGoesOnFromTheSlot(t *testing.T) {
	t.Parallel()
	stacktest.Kafka(t)
	r := newRig(t, 30)
	conn := r.connector(false)
	var snapshot bool
	var sums []workload.Summary
	for run := 1; run <= 3; run++ {
		stop := r.emulate(conn, &snapshot)
		sums = append(sums, r.work(run*2, 100))
		if run != 2 { // the first must get past its snapshot, which is taken anew when it is cut off
			stacktest.WaitStreamed(t, r.db, conn.Slot)
		}
		stop()
		sums = append(sums, r.work(run*2+1, 50)) // while nobody reads
	}
	stop := r.emulate(conn, &snapshot)
	stacktest.WaitStreamed(t, r.db, conn.Slot)
	stop()
	for _, table := range models.Names(models.ShopTables()) {
		seen := map[string]bool{} // events by position: what is delivered again is the same event
		counts := map[debezium.Op]int64{}
		for _, rec := range stacktest.Read(t, conn.TopicPrefix+"."+conn.Schema+"."+table) {
			e, err := debezium.Decode(rec.Key, rec.Value)
			if err != nil {
				t.Fatal(err)
			}
			if e.Tombstone {
				continue
			}
			id := fmt.Sprintf("%s %s %d %v", rec.Key, e.Envelope.Op, e.Envelope.Source.LSN, e.Envelope.Transaction)
			if !seen[id] {
				counts[e.Envelope.Op]++
			}
			seen[id] = true
		}
		var ins, upd, del int64
		for _, s := range sums {
			ins, upd, del = ins+s.Tables[table].Insert, upd+s.Tables[table].Update, del+s.Tables[table].Delete
		}
		if counts[debezium.OpCreate] != ins || counts[debezium.OpUpdate] != upd || counts[debezium.OpDelete] != del {
			t.Errorf("%s: %v, the workload says %d, %d, %d", table, counts, ins, upd, del)
		}
	}
	// The slot dropped behind its back is told as a loss.
	if err := r.db.DropSlot(t.Context(), conn.Slot, stacktest.Patience); err != nil {
		t.Fatal(err)
	}
	kafka, err := topics.Cluster{}.Config()
	if err != nil {
		t.Fatal(err)
	}
	e := emulator.New(emulator.Config{
		Conn: r.cfg.Conn, Connector: conn, Brokers: []string{stacktest.Kafka(t)}, Kafka: kafka,
		SnapshotDone: func(context.Context) (bool, error) { return true, nil },
	}, quiet)
	if err := e.Run(t.Context(), func() {}); err == nil || !bytes.Contains([]byte(err.Error()), []byte("changes are lost")) {
		t.Errorf("error %v", err)
	}
}
