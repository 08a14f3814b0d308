package topics_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/cdcseed/cdcseed/await"
	"github.com/cdcseed/cdcseed/internal/pgtest"
	"github.com/cdcseed/cdcseed/internal/stacktest"
	"github.com/cdcseed/cdcseed/topics"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestNames(t *testing.T) {
	t.Parallel()
	got := topics.NamesOf("ecomm", "demo", []string{"users", "heartbeat"}).All()
	want := []string{"ecomm.demo.users", "ecomm.demo.heartbeat", "__debezium-heartbeat.ecomm", "ecomm.transaction"}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func produce(t *testing.T, topic string, n int) {
	t.Helper()
	cfg, err := topics.Cluster{}.Config()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Producer.Return.Successes = true
	p, err := sarama.NewSyncProducer([]string{stacktest.Kafka(t)}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	for range n {
		if _, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder("k"), Value: sarama.StringEncoder("v")}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCreateListReset(t *testing.T) {
	t.Parallel()
	admin := stacktest.Admin(t)
	names := topics.NamesOf(pgtest.Name(t, "x"), "demo", []string{"users", "orders"})
	stacktest.DropTopics(t, names.All())
	settings := topics.Settings{Partitions: 3, Replication: 1, Config: map[string]string{"cleanup.policy": "delete", "retention.ms": "3600000"}}

	created, err := admin.Create(names, settings)
	if err != nil || !slices.Equal(created.New, names.All()) || len(created.Kept)+len(created.Differences) != 0 {
		t.Fatalf("%+v, %v", created, err)
	}
	created, err = admin.Create(names, settings)
	if err != nil || len(created.New) != 0 || !slices.Equal(created.Kept, names.All()) || len(created.Differences) != 0 {
		t.Fatalf("again: %+v, %v", created, err)
	}
	// What differs is told and not altered.
	other := topics.Settings{Partitions: 5, Replication: 1, Config: map[string]string{"cleanup.policy": "compact", "retention.ms": "3600000"}}
	created, err = admin.Create(names, other)
	want := []topics.Difference{
		{names.Tables[0], "partitions", "5", "3"}, {names.Tables[0], "cleanup.policy", "compact", "delete"},
		{names.Tables[1], "partitions", "5", "3"}, {names.Tables[1], "cleanup.policy", "compact", "delete"},
		{names.Heartbeat, "cleanup.policy", "compact", "delete"}, {names.Transaction, "cleanup.policy", "compact", "delete"},
	}
	if err != nil || !reflect.DeepEqual(created.Differences, want) {
		t.Errorf("differences %v (%v), want %v", created.Differences, err, want)
	}
	if s := want[0].String(); !strings.Contains(s, "partitions=3, not 5") {
		t.Error(s)
	}

	produce(t, names.Tables[0], 7)
	list, err := admin.List(append(names.All(), "no-such-topic"))
	if err != nil {
		t.Fatal(err)
	}
	if list[0].Records != 7 || list[0].Partitions != 3 || list[0].Cleanup != "delete" || list[3].Partitions != 1 || list[4].Exists {
		t.Errorf("%+v", list)
	}
	done, err := admin.Reset(t.Context(), append(names.All(), "no-such-topic"))
	if err != nil || !slices.Equal(done, names.All()) {
		t.Fatalf("%v, %v", done, err)
	}
	list, err = admin.List(names.All())
	if err != nil || list[0].Records != 0 || list[0].Partitions != 3 {
		t.Errorf("%+v, %v", list, err)
	}
	if got := stacktest.Read(t, names.Tables[0]); len(got) != 0 {
		t.Errorf("%d records are left", len(got))
	}
	produce(t, names.Tables[0], 2)
	if got := stacktest.Read(t, names.Tables[0]); len(got) != 2 {
		t.Errorf("%d records after the reset and two more", len(got))
	}
}

// Kafka deletes no records of a topic that is only compacted, so it is made anew, as it was.
func TestResetOfACompactedTopic(t *testing.T) {
	t.Parallel()
	admin := stacktest.Admin(t)
	names := topics.NamesOf(pgtest.Name(t, "x"), "demo", []string{"users"})
	stacktest.DropTopics(t, names.All())
	settings := topics.Settings{Partitions: 2, Replication: 1, Config: map[string]string{"cleanup.policy": "compact", "segment.ms": "60000"}}
	if _, err := admin.Create(names, settings); err != nil {
		t.Fatal(err)
	}
	produce(t, names.Tables[0], 3)
	if _, err := admin.Reset(t.Context(), names.All()); err != nil {
		t.Fatal(err)
	}
	created, err := admin.Create(names, settings)
	if err != nil || len(created.New)+len(created.Differences) != 0 {
		t.Errorf("after the reset: %+v, %v", created, err)
	}
	if got := stacktest.Read(t, names.Tables[0]); len(got) != 0 {
		t.Errorf("%d records are left", len(got))
	}
}

func TestCreateRefused(t *testing.T) {
	t.Parallel()
	admin := stacktest.Admin(t)
	names := topics.NamesOf(pgtest.Name(t, "x"), "demo", []string{"users"})
	stacktest.DropTopics(t, names.All())
	_, err := admin.Create(names, topics.Settings{Partitions: 1, Replication: 3})
	if !errors.Is(err, sarama.ErrInvalidReplicationFactor) || !strings.Contains(err.Error(), names.Tables[0]) || !strings.Contains(err.Error(), "replication 3") {
		t.Errorf("error %v", err)
	}
	_, err = admin.Create(names, topics.Settings{Partitions: 1, Replication: 1, Config: map[string]string{"no.such.setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), "no.such.setting") {
		t.Errorf("error %v", err)
	}
}

func TestDialGivesUp(t *testing.T) {
	t.Parallel()
	_, err := topics.Dial(t.Context(), topics.Cluster{Brokers: []string{"127.0.0.1:1"}}, 100*time.Millisecond, slog.New(slog.DiscardHandler))
	if !errors.Is(err, await.ErrUnavailable) || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("error %v", err)
	}
}

func TestClusterConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk.pem")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		cluster topics.Cluster
		err     string
	}{
		{"plain", topics.Cluster{}, ""},
		{"tls", topics.Cluster{TLS: true}, ""},
		{"sasl plain", topics.Cluster{Mechanism: "PLAIN", User: "u", Password: "p"}, ""},
		{"scram 256", topics.Cluster{Mechanism: "SCRAM-SHA-256", User: "u", Password: "p"}, ""},
		{"scram 512", topics.Cluster{TLS: true, Mechanism: "SCRAM-SHA-512", User: "u", Password: "p"}, ""},
		{"another mechanism", topics.Cluster{Mechanism: "GSSAPI"}, "not one of PLAIN"},
		{"no such file", topics.Cluster{TLS: true, CAFile: filepath.Join(dir, "none")}, "CA certificates"},
		{"no certificate", topics.Cluster{TLS: true, CAFile: junk}, "no certificate"},
		{"no key", topics.Cluster{TLS: true, CertFile: junk}, "client certificate"},
		{"no user", topics.Cluster{Mechanism: "PLAIN"}, "Net.SASL.User"},
	} {
		cfg, err := c.cluster.Config()
		if c.err == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			} else if cfg.Net.TLS.Enable != c.cluster.TLS || cfg.Net.SASL.Enable != (c.cluster.Mechanism != "") {
				t.Errorf("%s: TLS %v, SASL %v", c.name, cfg.Net.TLS.Enable, cfg.Net.SASL.Enable)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.err)
		}
	}
}
