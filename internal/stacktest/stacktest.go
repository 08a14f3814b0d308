// Package stacktest lets tests use a Kafka and a Kafka Connect with Debezium that run already: `make test` starts the
// native stack once for all of them.
package stacktest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/cdcseed/cdcseed/await"
	"github.com/cdcseed/cdcseed/debezium"
	"github.com/cdcseed/cdcseed/postgres"
	"github.com/cdcseed/cdcseed/topics"
)

// Environment variables by which `make test` tells where the stack is.
const (
	KafkaVariable   = "CDCSEED_TEST_KAFKA"
	ConnectVariable = "CDCSEED_TEST_CONNECT"
	// RequireVariable, set to anything, makes a missing stack a failure instead of a skip: CI leaves nothing out.
	RequireVariable = "CDCSEED_TEST_REQUIRE_STACK"
)

// Patience is how long a stack on a bad day may take over something.
const Patience = 15 * time.Minute

// Kafka returns the broker's address, or skips the test.
func Kafka(t testing.TB) string { t.Helper(); return need(t, KafkaVariable) }

// Connect returns the address of Connect's REST interface, or skips the test.
func Connect(t testing.TB) string { t.Helper(); return need(t, ConnectVariable) }

func need(t testing.TB, variable string) string {
	t.Helper()
	v := os.Getenv(variable)
	switch {
	case v != "":
	case os.Getenv(RequireVariable) != "":
		t.Fatalf("%s is not set, and %s asks for the stack", variable, RequireVariable)
	default:
		t.Skipf("left out: %s is not set; `make test` starts the native stack where Java and Maven are", variable)
	}
	return v
}

// Admin connects to Kafka for a test.
func Admin(t testing.TB) *topics.Admin {
	t.Helper()
	a, err := topics.Dial(t.Context(), topics.Cluster{Brokers: []string{Kafka(t)}}, Patience, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("stacktest: %v", err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// DropTopics deletes topics with the test.
func DropTopics(t testing.TB, names []string) {
	t.Helper()
	broker := Kafka(t)
	t.Cleanup(func() {
		cfg, err := topics.Cluster{Brokers: []string{broker}}.Config()
		if err != nil {
			t.Errorf("stacktest: %v", err)
			return
		}
		admin, err := sarama.NewClusterAdmin([]string{broker}, cfg)
		if err != nil {
			t.Errorf("stacktest: delete topics: %v", err)
			return
		}
		defer func() { _ = admin.Close() }()
		for _, n := range names {
			if err := admin.DeleteTopic(n); err != nil && !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
				t.Errorf("stacktest: delete topic %s: %v", n, err)
			}
		}
	})
}

// DropConnector removes a connector and its slot with the test.
func DropConnector(t testing.TB, db *postgres.DB, name, slot string) {
	t.Helper()
	client := Client(t)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := client.Stop(ctx, name); err != nil {
			t.Errorf("stacktest: %v", err)
		}
		if err := client.DeleteOffsets(ctx, name); err != nil {
			t.Errorf("stacktest: %v", err)
		}
		if err := client.Delete(ctx, name); err != nil {
			t.Errorf("stacktest: %v", err)
		}
		if err := db.DropSlot(ctx, slot, Patience); err != nil {
			t.Errorf("stacktest: %v", err)
		}
	})
}

// Client opens Connect for a test.
func Client(t testing.TB) *debezium.Client {
	t.Helper()
	c, err := debezium.NewClient(Connect(t), Patience, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("stacktest: %v", err)
	}
	t.Cleanup(c.Close)
	return c
}

// WaitStreamed waits until everything committed before the call is in Kafka: the slot is confirmed only after the broker
// has acknowledged.
func WaitStreamed(t testing.TB, db *postgres.DB, slot string) {
	t.Helper()
	ctx := t.Context()
	var target string
	if err := db.Pool.QueryRow(ctx, "SELECT pg_current_wal_lsn()::text").Scan(&target); err != nil {
		t.Fatalf("stacktest: ask for the WAL position: %v", err)
	}
	_, err := await.For(ctx, await.Policy{What: "slot " + slot, MaxWait: Patience}, func() (struct{}, error) {
		var passed bool
		err := db.Pool.QueryRow(ctx, "SELECT confirmed_flush_lsn >= $2::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $1", slot, target).Scan(&passed)
		if err == nil && !passed {
			err = fmt.Errorf("not confirmed up to %s yet", target)
		}
		return struct{}{}, err
	})
	if err != nil {
		t.Fatalf("stacktest: %v", err)
	}
}

// Record is a record of a topic.
type Record struct {
	Partition  int32
	Offset     int64
	Key, Value []byte
}

// Read reads what a topic holds now, partition by partition in the order of the offsets.
func Read(t testing.TB, topic string) []Record {
	t.Helper()
	admin, err := topics.Dial(t.Context(), topics.Cluster{Brokers: []string{Kafka(t)}}, Patience, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("stacktest: %v", err)
	}
	defer func() { _ = admin.Close() }()
	var out []Record
	err = admin.Consume(t.Context(), []string{topic}, topics.Oldest, false, func(r topics.Record) error {
		out = append(out, Record{r.Partition, r.Offset, r.Key, r.Value})
		return nil
	})
	if err != nil {
		t.Fatalf("stacktest: %v", err)
	}
	slices.SortStableFunc(out, func(a, b Record) int { return cmp.Compare(a.Partition, b.Partition) })
	return out
}
