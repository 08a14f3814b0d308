package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cdcseed/cdcseed/debezium"
	"github.com/cdcseed/cdcseed/internal/stacktest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// recording is a record as the real Debezium wrote it, kept for tests that run without it.
type recording struct {
	Topic string          `json:"topic"` // without prefix and schema
	Key   json.RawMessage `json:"key"`
	Value json.RawMessage `json:"value"`
}

// script touches a distribution centre in every way: read by the snapshot (made before it), created, updated, given
// another key, deleted, truncated.
var script = []string{
	"INSERT INTO distribution_centers (id, name, latitude, longitude) VALUES (65, 'Ghent', 51.05, 3.72)",
	"UPDATE distribution_centers SET name = 'Bruges' WHERE id = 65",
	"UPDATE distribution_centers SET id = 130 WHERE id = 65",
	"DELETE FROM distribution_centers WHERE id = 130",
	"INSERT INTO users (id, first_name, last_name, email, age, gender, state, street_address, postal_code, city, country, latitude, longitude, traffic_source, created_at, updated_at) " +
		"VALUES (65, 'Zoë', 'O''Neil', 'z@example.com', 30, 'F', 'Flanders', '1 \"Main\" \\ Street', '9000', 'Ghent', 'Belgium', 51.05, 3.72, 'Search', '1999-12-31 23:59:59.999999Z', '0001-01-01 00:00:00Z')",
	"INSERT INTO distribution_centers (id, name, latitude, longitude) VALUES (195, '', '-Infinity', 1e-300)",
	"INSERT INTO products (id, cost, category, name, brand, retail_price, department, sku, distribution_center_id) VALUES (65, 0.10, 'Socks', 'S', 'B', 99999999.99, 'Men', 'X', 195)",
	"INSERT INTO orders (order_id, user_id, status, gender, num_of_item) VALUES (65, 65, 'Processing', 'F', 1)",
	"TRUNCATE events",
}

// TestRecordings runs the script against the real Debezium, with and without schemas in the events, and holds the shape
// of what comes out against the recordings in debezium/testdata, which -update writes anew.
func TestRecordings(t *testing.T) {
	t.Parallel()
	stacktest.Connect(t)
	for _, schemas := range []bool{false, true} {
		t.Run(fmt.Sprintf("schemas=%v", schemas), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			names := topicNames(p.prefix, p.cfg.Schema)
			stacktest.DropTopics(t, names.All())
			stacktest.DropConnector(t, p.db, p.connector, p.slot)
			must := func(args ...string) {
				t.Helper()
				if code, _, errOut := cdcseed(t, args...); code != 0 {
					t.Fatalf("exit %d: %s", code, errOut)
				}
			}
			topicArgs := []string{"--bootstrap-servers", stacktest.Kafka(t), "--topic-prefix", p.prefix, "--schema", p.cfg.Schema}
			connectorArgs := append(p.databaseArgs(), "--connect-url", stacktest.Connect(t), "--topic-prefix", p.prefix,
				"--connector", p.connector, "--slot", p.slot, "--heartbeat-interval", "1s", "--connector-schemas="+strconv.FormatBool(schemas))
			must(append([]string{"migrate", "up"}, p.databaseArgs()...)...)
			must(append([]string{"topics", "create", "--topic-partitions", "1"}, topicArgs...)...)
			exec := func(sql string) {
				t.Helper()
				if _, err := p.db.Pool.Exec(t.Context(), sql); err != nil {
					t.Fatalf("%s: %v", sql, err)
				}
			}
			exec("INSERT INTO distribution_centers (id, name, latitude, longitude) VALUES (1, 'Antwerp', 51.2, 4.4)")
			must(append([]string{"connector", "apply"}, connectorArgs...)...)
			for _, s := range script {
				exec(s)
			}
			stacktest.WaitStreamed(t, p.db, p.slot)

			var got []recording
			for _, table := range []string{"distribution_centers", "users", "products", "orders", "events"} {
				for _, rec := range stacktest.Read(t, p.prefix+"."+p.cfg.Schema+"."+table) {
					got = append(got, p.record(table, rec))
				}
			}
			got = append(got, p.firstTransaction(stacktest.Read(t, names.Transaction))...)
			got = append(got, p.record("__debezium-heartbeat.ecomm", stacktest.Read(t, names.Heartbeat)[0]))
			file := filepath.Join("..", "..", "debezium", "testdata", fmt.Sprintf("events-schemas-%v.json", schemas))
			compareRecordings(t, file, got)
			must(append([]string{"connector", "restart"}, connectorArgs...)...)
			must(append([]string{"connector", "status", "--json"}, connectorArgs...)...)
			must(append([]string{"connector", "reset"}, connectorArgs...)...)
			if slot, err := p.db.Slot(t.Context(), p.slot); err != nil || slot.Exists {
				t.Errorf("after reset: %+v, %v", slot, err)
			}
			must(append([]string{"connector", "delete"}, connectorArgs...)...)
			code, _, errOut := cdcseed(t, append([]string{"connector", "status"}, connectorArgs...)...)
			if code != exitUnfit || !strings.Contains(errOut, "no such connector") {
				t.Errorf("status of a deleted connector: exit %d, %s", code, errOut)
			}
		})
	}
}

// firstTransaction is BEGIN and END of the script's first statement; heartbeats come in between at any time.
func (p *place) firstTransaction(list []stacktest.Record) []recording {
	p.t.Helper()
	begins := map[string]stacktest.Record{}
	for _, rec := range list {
		b, err := debezium.DecodeTx(rec.Value)
		if err != nil {
			p.t.Fatal(err)
		}
		if b.Status == "BEGIN" {
			begins[b.TxID()] = rec
		} else if strings.HasSuffix(b.DataCollections[0].Name, ".distribution_centers") {
			return []recording{p.record("ecomm.transaction", begins[b.TxID()]), p.record("ecomm.transaction", rec)}
		}
	}
	p.t.Fatal("no transaction of the script in the topic")
	return nil
}

// record makes a record independent of the test's names.
func (p *place) record(topic string, rec stacktest.Record) recording {
	p.t.Helper()
	neutral := strings.NewReplacer(p.prefix, "ecomm", p.cfg.Schema, "demo", p.cfg.Conn.Database, "fh_dev")
	raw := func(b []byte) json.RawMessage {
		if b == nil {
			return json.RawMessage("null")
		}
		return json.RawMessage(neutral.Replace(string(b)))
	}
	return recording{Topic: topic, Key: raw(rec.Key), Value: raw(rec.Value)}
}

// compareRecordings holds the shapes of records against a file of recordings.
func compareRecordings(t *testing.T, file string, got []recording) {
	t.Helper()
	if *update {
		var b bytes.Buffer
		b.WriteString("[\n")
		for i, r := range got {
			line, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(line)
			if i < len(got)-1 {
				b.WriteByte(',')
			}
			b.WriteByte('\n')
		}
		b.WriteString("]\n")
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (write it with -update)", err)
	}
	var want []recording
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d records, %d are recorded", len(got), len(want))
	}
	for i := range want {
		g, w := shape(t, got[i]), shape(t, want[i])
		if !slices.Equal(g, w) {
			t.Errorf("record %d of %s has another shape than the recorded one:\n%v\n%v", i, want[i].Topic, g, w)
		}
	}
}

// shape lists a record's JSON paths with their types, and the values that the script decides.
func shape(t *testing.T, r recording) []string {
	t.Helper()
	out := map[string]bool{"topic " + r.Topic: true}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, inner := range v {
				walk(path+"."+k, inner)
			}
		case []any:
			for i, inner := range v {
				walk(fmt.Sprintf("%s[%d]", path, i), inner)
			}
		case string:
			if strings.HasSuffix(path, ".op") || strings.Contains(path, ".schema.") || strings.HasSuffix(path, ".snapshot") || strings.HasSuffix(path, ".status") {
				out[path+"="+v] = true
				return
			}
			out[path+" string"] = true
		default:
			out[fmt.Sprintf("%s %T", path, v)] = true
		}
	}
	for name, raw := range map[string]json.RawMessage{"key": r.Key, "value": r.Value} {
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}
		walk(name, v)
	}
	return slices.Sorted(maps.Keys(out))
}

// The connector's file in the repository is what the code renders by default.
func TestConnectorFile(t *testing.T) {
	t.Parallel()
	code, out, errOut := cdcseed(t, "connector", "show")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errOut)
	}
	file := filepath.Join("..", "..", "debezium", "connector.json")
	if *update {
		if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (write it with -update)", err)
	}
	if out != string(b) {
		t.Errorf("debezium/connector.json is not what the code renders; write it with -update:\n%s", out)
	}
	var cfg map[string]string
	if err := json.Unmarshal(b, &cfg); err != nil || cfg["slot.name"] != debezium.DefaultSlot {
		t.Errorf("%v, %v", cfg, err)
	}
}
