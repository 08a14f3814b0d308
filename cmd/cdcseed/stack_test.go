package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cdcseed/cdcseed/debezium"
	"github.com/cdcseed/cdcseed/internal/pgtest"
	"github.com/cdcseed/cdcseed/internal/stacktest"
	"github.com/cdcseed/cdcseed/metrics"
	"github.com/cdcseed/cdcseed/models"
	"github.com/cdcseed/cdcseed/postgres"
)

// cdcseed runs the program to its end and returns its exit code and what it printed.
func cdcseed(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	cmd, o, e := start(t, args...)
	_ = cmd.Wait()
	code = cmd.ProcessState.ExitCode()
	t.Logf("cdcseed %s: exit %d\n%s", strings.Join(args, " "), code, e.String())
	return code, o.String(), e.String()
}

// place is a shop of a test's own on the shared stack.
type place struct {
	t                            *testing.T
	cfg                          postgres.Config
	db                           *postgres.DB
	publication, slot, connector string
	prefix                       string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	cfg := pgtest.Config(t)
	p := &place{
		t: t, cfg: cfg, db: pgtest.OpenConfig(t, cfg), publication: pgtest.Name(t, "p"), slot: pgtest.Name(t, "l"),
		connector: pgtest.Name(t, "c"), prefix: pgtest.Name(t, "x"),
	}
	t.Cleanup(func() { _, _ = p.db.Pool.Exec(t.Context(), "DROP PUBLICATION IF EXISTS "+p.publication) })
	return p
}

// databaseArgs are the flags that lead to the place's schema.
func (p *place) databaseArgs() []string {
	c := p.cfg.Conn
	return []string{
		"--host", c.Host, "--port", strconv.Itoa(int(c.Port)), "--user", c.User, "--password", c.Password, "--db", c.Database,
		"--schema", p.cfg.Schema, "--publication", p.publication, "--max-wait", stacktest.Patience.String(),
	}
}

// runArgs is a whole `run` on the stack.
func (p *place) runArgs(more ...string) []string {
	args := append([]string{"run"}, p.databaseArgs()...)
	args = append(args, "--bootstrap-servers", stacktest.Kafka(p.t), "--connect-url", stacktest.Connect(p.t), "--topic-prefix", p.prefix,
		"--connector", p.connector, "--slot", p.slot, "--heartbeat-interval", "1s", "--json")
	return append(args, more...)
}

func (p *place) mustRun(args ...string) report {
	p.t.Helper()
	code, out, errOut := cdcseed(p.t, args...)
	if code != 0 {
		p.t.Fatalf("exit %d: %s", code, errOut)
	}
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		p.t.Fatalf("summary: %v in %s", err, out)
	}
	return r
}

// tally is what a topic holds.
type tally struct{ reads, creates, updates, deletes, tombstones int64 }

// readTopic counts and checks a table's topic: decodes each record, finds the key in the row, holds deletes against their
// tombstones and the life of each key against what is possible.
func (p *place) readTopic(table, keyColumn string) tally {
	p.t.Helper()
	var n tally
	type life struct {
		partition int32
		alive     bool
		deleted   bool // a tombstone is due
	}
	lives := map[string]*life{}
	for _, rec := range stacktest.Read(p.t, p.prefix+"."+p.cfg.Schema+"."+table) {
		where := fmt.Sprintf("%s, partition %d, offset %d", table, rec.Partition, rec.Offset)
		ev, err := debezium.Decode(rec.Key, rec.Value)
		if err != nil {
			p.t.Fatalf("%s: %v in %s", where, err, rec.Value)
		}
		if len(ev.Key) != 1 || ev.Key[keyColumn] == nil {
			p.t.Fatalf("%s: key %v is not the primary key %s", where, ev.Key, keyColumn)
		}
		key := fmt.Sprint(ev.Key[keyColumn])
		l := lives[key]
		if l == nil {
			l = &life{partition: rec.Partition}
			lives[key] = l
		}
		if l.partition != rec.Partition {
			p.t.Errorf("%s: key %s was in partition %d before", where, key, l.partition)
		}
		if ev.Tombstone {
			n.tombstones++
			if !l.deleted {
				p.t.Errorf("%s: a tombstone of key %s without a delete right before", where, key)
			}
			l.deleted = false
			continue
		}
		if l.deleted {
			p.t.Errorf("%s: the delete of key %s has no tombstone", where, key)
			l.deleted = false
		}
		env := ev.Envelope
		if env.Source.Table != table || env.Source.Schema != p.cfg.Schema {
			p.t.Errorf("%s: from %s.%s", where, env.Source.Schema, env.Source.Table)
		}
		row := env.After
		switch env.Op {
		case debezium.OpRead:
			n.reads++
			l.alive = true
		case debezium.OpCreate:
			n.creates++
			if l.alive {
				p.t.Errorf("%s: key %s is created while it lives", where, key)
			}
			l.alive = true
		case debezium.OpUpdate:
			n.updates++
			if !l.alive {
				p.t.Errorf("%s: key %s is updated and does not live", where, key)
			}
			if len(env.Before) != len(env.After) {
				p.t.Errorf("%s: before has %d columns, after %d", where, len(env.Before), len(env.After))
			}
		case debezium.OpDelete:
			n.deletes++
			if !l.alive {
				p.t.Errorf("%s: key %s is deleted and does not live", where, key)
			}
			l.alive, l.deleted = false, true
			row = env.Before
			for column, v := range row {
				if v == nil && !nullable[table+"."+column] {
					p.t.Errorf("%s: before of the delete has no %s: replica identity is not full", where, column)
				}
			}
		default:
			p.t.Errorf("%s: op %q", where, env.Op)
		}
		if got := fmt.Sprint(row[keyColumn]); got != key {
			p.t.Errorf("%s: key %s, but the row says %s", where, key, got)
		}
		if (env.Op == debezium.OpRead) != (env.Transaction == nil) {
			p.t.Errorf("%s: op %s with transaction %v", where, env.Op, env.Transaction)
		}
	}
	for key, l := range lives {
		if l.deleted {
			p.t.Errorf("%s: the last delete of key %s has no tombstone", table, key)
		}
	}
	return n
}

var nullable = func() map[string]bool {
	out := map[string]bool{}
	schemas, err := models.Schemas()
	if err != nil {
		panic(err)
	}
	for _, s := range schemas {
		for _, f := range s.Fields {
			out[s.Table+"."+f.DBName] = !f.NotNull && !f.PrimaryKey
		}
	}
	return out
}()

// checkTopics holds every topic against the sums of the runs' own summaries.
func (p *place) checkTopics(seeded map[string]int, runs ...report) {
	p.t.Helper()
	stacktest.WaitStreamed(p.t, p.db, p.slot)
	schemas, err := models.Schemas()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, table := range models.Names(models.ShopTables()) {
		var want metrics.Counts
		for _, r := range runs {
			want.Add(r.Workload.Tables[table])
		}
		got := p.readTopic(table, schemas[table].PrioritizedPrimaryField.DBName)
		expect := tally{int64(seeded[table]), want.Insert, want.Update, want.Delete, want.Delete}
		if got != expect {
			p.t.Errorf("%s: topic holds %+v, seeding and runs say %+v", table, got, expect)
		}
		var rows int64
		if err := p.db.Pool.QueryRow(p.t.Context(), "SELECT count(*) FROM "+table).Scan(&rows); err != nil {
			p.t.Fatal(err)
		}
		if left := int64(seeded[table]) + want.Insert - want.Delete; rows != left {
			p.t.Errorf("%s: table holds %d rows, seeding and runs leave %d", table, rows, left)
		}
	}
}

// checkTransactions holds the transaction topic against the number of transactions: BEGIN and END for each, the END
// counting its events.
func (p *place) checkTransactions(runs ...report) {
	p.t.Helper()
	var want int64
	for _, r := range runs {
		want += r.Workload.Transactions
	}
	// Debezium's ids are txId:LSN, and the LSN of END is not that of BEGIN: the transaction is the part before the colon.
	begun, ended := map[string]bool{}, map[string]bool{}
	for _, rec := range stacktest.Read(p.t, p.prefix+".transaction") {
		b, err := debezium.DecodeTx(rec.Value)
		if err != nil {
			p.t.Fatalf("transaction topic: %v in %s", err, rec.Value)
		}
		if b.Status == "BEGIN" {
			begun[b.TxID()] = true
			continue
		}
		if !begun[b.TxID()] || b.EventCount == nil {
			p.t.Errorf("END of %s: begun %v, event count %v", b.ID, begun[b.TxID()], b.EventCount)
			continue
		}
		var sum int64
		for _, c := range b.DataCollections {
			sum += c.EventCount
			if !strings.HasSuffix(c.Name, ".heartbeat") {
				ended[b.TxID()] = true
			}
		}
		if sum != *b.EventCount {
			p.t.Errorf("END of %s counts %d events, its tables' sum is %d", b.ID, *b.EventCount, sum)
		}
	}
	if int64(len(ended)) != want {
		p.t.Errorf("%d transactions ended in the topic, %d were committed", len(ended), want)
	}
}

func TestRunOnStack(t *testing.T) {
	t.Parallel()
	stacktest.Connect(t)
	p := newPlace(t)
	stacktest.DropTopics(t, topicNames(p.prefix, p.cfg.Schema).All())
	stacktest.DropConnector(t, p.db, p.connector, p.slot)

	first := p.mustRun(p.runArgs("--if-exists", "replace", "--max-iter", "2000", "--avg-qps", "0")...)
	if first.Workload.Transactions != 2000 || first.Workload.Errors != 0 || first.Run != 1 {
		t.Errorf("first run: %d transactions, %d errors, run %d", first.Workload.Transactions, first.Workload.Errors, first.Run)
	}
	for _, table := range models.Names(models.ShopTables()) {
		if first.Seeded[table] == 0 {
			t.Errorf("%s was not seeded", table)
		}
	}
	p.checkTopics(first.Seeded, first)
	p.checkTransactions(first)

	// Twice more with append: nothing is seeded again, no update that changes nothing.
	second := p.mustRun(p.runArgs("--if-exists", "append", "--max-iter", "500", "--avg-qps", "0")...)
	third := p.mustRun(p.runArgs("--if-exists", "append", "--max-iter", "500", "--avg-qps", "0")...)
	if len(second.Seeded)+len(third.Seeded) != 0 || second.Run != 2 || third.Run != 3 {
		t.Errorf("append seeded %v and %v as runs %d and %d", second.Seeded, third.Seeded, second.Run, third.Run)
	}
	p.checkTopics(first.Seeded, first, second, third)
	p.checkTransactions(first, second, third)

	// And back to zero.
	again := p.mustRun(p.runArgs("--if-exists", "replace", "--max-iter", "200", "--avg-qps", "0", "--scale-factor", "0.005")...)
	if again.Run != 1 || again.Seeded[models.TableUsers] != 500 {
		t.Errorf("after replace: run %d, %d users", again.Run, again.Seeded[models.TableUsers])
	}
	p.checkTopics(again.Seeded, again)
	p.checkTransactions(again)
}
