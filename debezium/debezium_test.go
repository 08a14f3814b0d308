package debezium_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cdcseed/cdcseed/await"
	"github.com/cdcseed/cdcseed/debezium"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type recording struct {
	Topic string          `json:"topic"`
	Key   json.RawMessage `json:"key"`
	Value json.RawMessage `json:"value"`
}

// recordings are records of the real Debezium; TestRecordings in cmd/cdcseed writes them.
func recordings(t testing.TB, schemas bool) []recording {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", fmt.Sprintf("events-schemas-%v.json", schemas)))
	if err != nil {
		t.Fatal(err)
	}
	var out []recording
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDecodeRecordings(t *testing.T) {
	t.Parallel()
	for _, schemas := range []bool{false, true} {
		t.Run(fmt.Sprintf("schemas=%v", schemas), func(t *testing.T) {
			t.Parallel()
			var got []string
			rows := map[string]debezium.Row{}
			for _, r := range recordings(t, schemas) {
				switch {
				case r.Topic == "ecomm.transaction":
					b, err := debezium.DecodeTx(r.Value)
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, "tx "+b.Status)
					if b.Status == "END" && (b.EventCount == nil || *b.EventCount != 1 || b.DataCollections[0].Name != "demo.distribution_centers") {
						t.Errorf("END %+v", b)
					}
					if b.TxID() == "" || strings.Contains(b.TxID(), ":") {
						t.Errorf("transaction id %q", b.TxID())
					}
				case strings.HasPrefix(r.Topic, "__"):
				default:
					e, err := debezium.Decode(r.Key, r.Value)
					if err != nil {
						t.Fatalf("%s: %v", r.Value, err)
					}
					id := any("-")
					for _, v := range e.Key {
						id = v
					}
					if e.Tombstone {
						got = append(got, fmt.Sprintf("%s %v tombstone", r.Topic, id))
						continue
					}
					got = append(got, fmt.Sprintf("%s %v %s", r.Topic, id, e.Envelope.Op))
					if e.Envelope.After != nil {
						rows[fmt.Sprintf("%s %v", r.Topic, id)] = e.Envelope.After
					}
					if e.Envelope.Source.LSN == 0 || e.Envelope.Source.TxID == 0 || e.Envelope.TsMs == 0 || e.Envelope.Source.DB != "fh_dev" {
						t.Errorf("%+v", e.Envelope)
					}
					if (e.Envelope.Op == debezium.OpRead) != (e.Envelope.Transaction == nil) {
						t.Errorf("op %s with transaction %v", e.Envelope.Op, e.Envelope.Transaction)
					}
				}
			}
			want := []string{
				"distribution_centers 1 r", "distribution_centers 65 c", "distribution_centers 65 u",
				// a change of the key is a delete, its tombstone, and a create
				"distribution_centers 65 d", "distribution_centers 65 tombstone", "distribution_centers 130 c",
				"distribution_centers 130 d", "distribution_centers 130 tombstone", "distribution_centers 195 c",
				"users 65 c", "products 65 c", "orders 65 c", "events - t", "tx BEGIN", "tx END",
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("events %q, want %q", got, want)
			}
			for _, c := range []struct {
				row, column string
				want        any
			}{
				{"products 65", "retail_price", "99999999.99"},
				{"products 65", "cost", "0.10"},
				{"users 65", "created_at", "1999-12-31T23:59:59.999999Z"},
				{"users 65", "updated_at", "0001-01-01T00:00:00.000000Z"},
				{"users 65", "street_address", `1 "Main" \ Street`},
				{"users 65", "age", json.Number("30")},
				{"distribution_centers 195", "latitude", "-Infinity"},
				{"orders 65", "shipped_at", nil},
			} {
				if got := rows[c.row][c.column]; got != c.want {
					t.Errorf("%s.%s is %#v, want %#v", c.row, c.column, got, c.want)
				}
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, key, value, want string }{
		{"no JSON", `{"id":1}`, `nope`, "not a JSON object"},
		{"an array", `{"id":1}`, `[1]`, "not a JSON object"},
		{"no op", `{"id":1}`, `{"after":{"id":1}}`, "none of Debezium's"},
		{"an unknown op", `{"id":1}`, `{"op":"x","after":{"id":1}}`, "none of Debezium's"},
		{"a create without a row", `{"id":1}`, `{"op":"c","after":null}`, `without "after"`},
		{"a delete without a row", `{"id":1}`, `{"op":"d","before":null}`, `without "before"`},
		{"no key", ``, `{"op":"c","after":{"id":1}}`, "without a key"},
		{"a tombstone without a key", ``, ``, "without a key"},
		{"two values", `{"id":1}`, `{"op":"c","after":{"id":1}} {}`, "not a JSON object"},
		{"a heartbeat", `{"serverName":"ecomm"}`, `{"ts_ms":1}`, "none of Debezium's"},
	} {
		_, err := debezium.Decode([]byte(c.key), []byte(c.value))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.want)
		}
	}
	for _, v := range []string{``, `null`, `{}`, `{"status":"MIDDLE"}`, `[]`} {
		if _, err := debezium.DecodeTx([]byte(v)); err == nil {
			t.Errorf("transaction event %q is taken", v)
		}
	}
}

// A table may have columns named schema and payload.
func TestDecodeKeyThatLooksWrapped(t *testing.T) {
	t.Parallel()
	e, err := debezium.Decode([]byte(`{"schema":"s","payload":"p"}`), []byte(`{"op":"c","after":{"schema":"s","payload":"p"}}`))
	if err != nil || e.Key["schema"] != "s" {
		t.Errorf("%+v, %v", e, err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, schemas := range []bool{false, true} {
		for _, r := range recordings(f, schemas) {
			f.Add([]byte(r.Key), []byte(r.Value))
		}
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		e, err := debezium.Decode(key, value)
		if err == nil && !e.Tombstone && e.Envelope == nil {
			t.Errorf("%q, %q: neither a tombstone nor an event", key, value)
		}
		_, _ = debezium.DecodeTx(value)
	})
}

func BenchmarkDecode(b *testing.B) {
	list := recordings(b, false)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := debezium.Decode(list[1].Key, list[1].Value); err != nil {
			b.Fatal(err)
		}
	}
}

func connector() debezium.Connector {
	return debezium.Connector{
		Name: "c", Host: "h", Port: 5432, Database: "d", User: "u", Password: "p", TopicPrefix: "ecomm", Schema: "my-shop",
		Exclude: []string{"a", "b"}, Publication: "pub", Slot: "slot", HeartbeatInterval: 10 * time.Second,
	}
}

func TestConnectorConfig(t *testing.T) {
	t.Parallel()
	c := connector()
	cfg := c.Config()
	for k, want := range map[string]string{
		"heartbeat.action.query": `UPDATE "my-shop"."heartbeat" SET ts = now() WHERE id = 1`,
		"table.exclude.list":     `my-shop\.a,my-shop\.b`, "schema.include.list": "my-shop", "skipped.operations": "none",
		"heartbeat.interval.ms": "10000", "value.converter.schemas.enable": "false", "publication.autocreate.mode": "disabled",
	} {
		if cfg[k] != want {
			t.Errorf("%s is %q, want %q", k, cfg[k], want)
		}
	}
	c.SkipTruncates, c.Schemas, c.Exclude, c.HeartbeatInterval = true, true, nil, 0
	cfg = c.Config()
	if cfg["skipped.operations"] != "t" || cfg["key.converter.schemas.enable"] != "true" || cfg["heartbeat.interval.ms"] != "0" {
		t.Errorf("%v", cfg)
	}
	if _, ok := cfg["table.exclude.list"]; ok {
		t.Error("an empty list of exclusions is rendered")
	}
	for name, ok := range map[string]bool{"cdcseed": true, "a_1": true, "": false, "Upper": false, "a-b": false, "a'; DROP": false, strings.Repeat("x", 64): false} {
		if debezium.ValidSlot(name) != ok {
			t.Errorf("slot %q: %v", name, !ok)
		}
	}
}

// fakeConnect answers like a worker: per method and path a list of answers, the last of which stays.
type fakeConnect struct {
	mu      sync.Mutex
	answers map[string][]string // "200 body"
	asked   []string
}

func (f *fakeConnect) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	what := r.Method + " " + r.URL.RequestURI()
	f.asked = append(f.asked, what+" "+string(body))
	list := f.answers[what]
	if len(list) == 0 {
		http.Error(w, `{"error_code":404,"message":"nothing here"}`, http.StatusNotFound)
		return
	}
	if len(list) > 1 {
		f.answers[what] = list[1:]
	}
	var code int
	var rest string
	_, _ = fmt.Sscanf(list[0], "%d", &code)
	if _, after, ok := strings.Cut(list[0], " "); ok {
		rest = after
	}
	w.WriteHeader(code)
	_, _ = io.WriteString(w, rest)
}

func fake(t *testing.T, maxWait time.Duration, answers map[string][]string) (*debezium.Client, *fakeConnect) {
	t.Helper()
	f := &fakeConnect{answers: answers}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	c, err := debezium.NewClient(strings.Replace(srv.URL, "http://", "http://me:secret@", 1), maxWait, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if strings.Contains(c.Address(), "secret") {
		t.Error("the address shows the password")
	}
	return c, f
}

const (
	running = `200 {"name":"c","connector":{"state":"RUNNING","worker_id":"w"},"tasks":[{"id":0,"state":"RUNNING","worker_id":"w"}]}`
	noTasks = `200 {"name":"c","connector":{"state":"RUNNING","worker_id":"w"},"tasks":[]}`
	stopped = `200 {"name":"c","connector":{"state":"STOPPED","worker_id":"w"},"tasks":[]}`
	failed  = `200 {"name":"c","connector":{"state":"RUNNING","worker_id":"w"},"tasks":[{"id":0,"state":"FAILED","worker_id":"w","trace":"org.apache.kafka.connect.errors.ConnectException: top\n\tat x\nCaused by: org.postgresql.util.PSQLException: FATAL: password authentication failed for user \"u\"\n\tat y\n"}]}`
	busy    = `409 {"error_code":409,"message":"rebalance in process"}`
	expects = `500 {"error_code":500,"message":"Request cannot be completed because a rebalance is expected"}`
)

func TestApply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		fresh   bool
		answers map[string][]string
		asked   []string
	}{
		{
			name: "new", fresh: true,
			answers: map[string][]string{"POST /connectors": {busy, "201 {}"}, "DELETE /connectors/c/offsets": {"200 {}"}, "PUT /connectors/c/resume": {"202"}},
			asked:   []string{"GET /connectors/c/status", "POST /connectors", "POST /connectors", "DELETE /connectors/c/offsets", "PUT /connectors/c/resume"},
		},
		{
			name:    "known, goes on",
			answers: map[string][]string{"GET /connectors/c/status": {expects, running}, "PUT /connectors/c/config": {"200 {}"}, "PUT /connectors/c/resume": {"202"}},
			asked:   []string{"GET /connectors/c/status", "GET /connectors/c/status", "PUT /connectors/c/config", "PUT /connectors/c/resume"},
		},
		{
			name: "known, begins anew", fresh: true,
			answers: map[string][]string{
				"GET /connectors/c/status": {running, running, stopped}, "PUT /connectors/c/stop": {"204"}, "PUT /connectors/c/config": {"200 {}"},
				"DELETE /connectors/c/offsets": {"200 {}"}, "PUT /connectors/c/resume": {"202"},
			},
			asked: []string{
				"GET /connectors/c/status", "PUT /connectors/c/stop", "GET /connectors/c/status", "GET /connectors/c/status",
				"PUT /connectors/c/config", "DELETE /connectors/c/offsets", "PUT /connectors/c/resume",
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client, f := fake(t, time.Minute, c.answers)
			if err := client.Apply(t.Context(), connector(), c.fresh); err != nil {
				t.Fatal(err)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(f.asked) != len(c.asked) {
				t.Fatalf("asked %q, want %q", f.asked, c.asked)
			}
			for i := range c.asked {
				if !strings.HasPrefix(f.asked[i], c.asked[i]+" ") {
					t.Errorf("asked %q, want %q", f.asked[i], c.asked[i])
				}
			}
			if c.name == "new" && !strings.Contains(f.asked[1], `"initial_state":"STOPPED"`) {
				t.Errorf("created as %s", f.asked[1])
			}
		})
	}
}

func TestClientFailures(t *testing.T) {
	t.Parallel()
	status := "GET /connectors/c/status"
	t.Run("a failed task", func(t *testing.T) {
		t.Parallel()
		c, _ := fake(t, time.Hour, map[string][]string{status: {noTasks, failed}})
		err := c.WaitRunning(t.Context(), "c")
		if !errors.Is(err, debezium.ErrFailed) || !strings.Contains(err.Error(), "password authentication failed") || !strings.Contains(err.Error(), "--password") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("it never runs", func(t *testing.T) {
		t.Parallel()
		c, _ := fake(t, time.Nanosecond, map[string][]string{status: {noTasks}})
		if err := c.WaitRunning(t.Context(), "c"); !errors.Is(err, await.ErrUnavailable) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a refused configuration", func(t *testing.T) {
		t.Parallel()
		c, _ := fake(t, time.Hour, map[string][]string{"POST /connectors": {`400 {"message":"Connector configuration is invalid"}`}})
		var e *debezium.StatusError
		if err := c.Apply(t.Context(), connector(), true); !errors.As(err, &e) || e.Code != 400 || !strings.Contains(err.Error(), "invalid") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("what is not there", func(t *testing.T) {
		t.Parallel()
		c, _ := fake(t, time.Hour, map[string][]string{})
		if _, err := c.Status(t.Context(), "c"); !errors.Is(err, debezium.ErrNotFound) {
			t.Errorf("error %v", err)
		}
		if err := errors.Join(c.Stop(t.Context(), "c"), c.DeleteOffsets(t.Context(), "c"), c.Delete(t.Context(), "c")); err != nil {
			t.Errorf("what is not there cannot be taken away: %v", err)
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		t.Parallel()
		c, err := debezium.NewClient("http://127.0.0.1:1", 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.WaitReady(t.Context()); !errors.Is(err, await.ErrUnavailable) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("addresses", func(t *testing.T) {
		t.Parallel()
		for _, a := range []string{"", "localhost:8083", "ftp://x", "http://", "http://u:secret@h:port"} {
			if _, err := debezium.NewClient(a, 0, nil); err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("%q: %v", a, err)
			}
		}
	})
}

func TestCausesAndAdvice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ trace, cause, advice string }{
		{"", "no reason", "log"},
		{"a.B: outer\n\tat x\nCaused by: c.D: middle\n\tat y\nCaused by: e.F: replication slot \"s\" is active for PID 7\n", `is active for PID 7`, "--slot"},
		{"x: publication \"p\" does not exist", "publication", "migrate up"},
		{"x: Topic ecomm.demo.users not present in metadata after 60000 ms.", "not present", "topics create"},
		{"Caused by: java.net.ConnectException: Connection refused", "refused", "--connector-db-host"},
	} {
		if got := debezium.RootCause(c.trace); !strings.Contains(got, c.cause) {
			t.Errorf("cause %q, want %q", got, c.cause)
		}
		if got := debezium.Advice(c.trace); !strings.Contains(got, c.advice) {
			t.Errorf("advice %q, want %q", got, c.advice)
		}
	}
}
