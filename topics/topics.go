// Package topics is the station on the data's way where Kafka gets ready: it creates the topics before Debezium writes
// to them, so that partitions, replication and configuration are chosen and not left to the broker's defaults.
package topics

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"github.com/cdcseed/cdcseed/await"
)

// Names are the topics that a connector writes to.
type Names struct {
	Tables      []string // one per table, in the tables' order: <prefix>.<schema>.<table>
	Heartbeat   string   // of Debezium itself, not to be confused with the table's
	Transaction string   // BEGIN and END of each transaction
}

// NamesOf derives the names as Debezium does from topic.prefix, the schema and the tables.
func NamesOf(prefix, schema string, tables []string) Names {
	n := Names{Heartbeat: "__debezium-heartbeat." + prefix, Transaction: prefix + ".transaction"}
	for _, t := range tables {
		n.Tables = append(n.Tables, prefix+"."+schema+"."+t)
	}
	return n
}

// All lists every name.
func (n Names) All() []string { return append(slices.Clone(n.Tables), n.Heartbeat, n.Transaction) }

// Settings are what a topic is created with.
type Settings struct {
	Partitions  int32 // of the tables' topics; the other two have one, for they are read in their order
	Replication int16
	Config      map[string]string
}

// Difference is a setting of an existing topic that is not as asked for.
type Difference struct {
	Topic   string `json:"topic"`
	Setting string `json:"setting"`
	Want    string `json:"want"`
	Have    string `json:"have"`
}

// String renders the difference for a log.
func (d Difference) String() string {
	return fmt.Sprintf("topic %s has %s=%s, not %s", d.Topic, d.Setting, d.Have, d.Want)
}

// Created tells what Create did.
type Created struct {
	New         []string     `json:"created"`
	Kept        []string     `json:"kept"`
	Differences []Difference `json:"differences"`
}

// Create makes the topics that are missing. Existing ones are kept as they are; where they differ from what is asked for,
// the difference is told and nothing is altered.
func (a *Admin) Create(names Names, s Settings) (Created, error) {
	var out Created
	existing, err := a.admin.ListTopics()
	if err != nil {
		return out, fmt.Errorf("list the topics: %w", err)
	}
	config := make(map[string]*string, len(s.Config))
	for k, v := range s.Config {
		config[k] = &v
	}
	for _, name := range names.All() {
		want := sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: s.Replication, ConfigEntries: config}
		if slices.Contains(names.Tables, name) {
			want.NumPartitions = s.Partitions
		}
		have, ok := existing[name]
		if !ok {
			err := a.admin.CreateTopic(name, &want, false)
			if err == nil {
				out.New = append(out.New, name)
				continue
			}
			if !errors.Is(err, sarama.ErrTopicAlreadyExists) {
				return out, fmt.Errorf("create topic %s with %d partitions, replication %d and %v: %w",
					name, want.NumPartitions, want.ReplicationFactor, s.Config, err)
			}
			out.Kept = append(out.Kept, name) // somebody was faster; the next start compares
			continue
		}
		out.Kept = append(out.Kept, name)
		diff, err := a.compare(name, have, want, s.Config)
		if err != nil {
			return out, err
		}
		out.Differences = append(out.Differences, diff...)
	}
	return out, nil
}

func (a *Admin) compare(name string, have, want sarama.TopicDetail, config map[string]string) ([]Difference, error) {
	var out []Difference
	if have.NumPartitions != want.NumPartitions {
		out = append(out, Difference{name, "partitions", strconv.Itoa(int(want.NumPartitions)), strconv.Itoa(int(have.NumPartitions))})
	}
	if have.ReplicationFactor != want.ReplicationFactor {
		out = append(out, Difference{name, "replication", strconv.Itoa(int(want.ReplicationFactor)), strconv.Itoa(int(have.ReplicationFactor))})
	}
	if len(config) == 0 {
		return out, nil
	}
	actual, err := a.config(name)
	if err != nil {
		return out, err
	}
	for _, k := range slices.Sorted(maps.Keys(config)) {
		if actual[k] != config[k] {
			out = append(out, Difference{name, k, config[k], actual[k]})
		}
	}
	return out, nil
}

// config reads a topic's whole configuration, defaults included.
func (a *Admin) config(topic string) (map[string]string, error) {
	entries, err := a.admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic}) //nolint:staticcheck // its successor answers in bulk, and this is one
	if err != nil {
		return nil, fmt.Errorf("read the configuration of topic %s: %w", topic, err)
	}
	out := make(map[string]string, len(entries))
	for _, e := range entries {
		out[e.Name] = e.Value
	}
	return out, nil
}

// Topic is a topic as it is.
type Topic struct {
	Name        string `json:"name"`
	Exists      bool   `json:"exists"`
	Partitions  int32  `json:"partitions"`
	Replication int16  `json:"replication"`
	Cleanup     string `json:"cleanup_policy"`
	Records     int64  `json:"records"` // between the oldest and the newest offset; compaction leaves gaps that count
}

// List describes the topics named, in that order.
func (a *Admin) List(names []string) ([]Topic, error) {
	existing, err := a.admin.ListTopics()
	if err != nil {
		return nil, fmt.Errorf("list the topics: %w", err)
	}
	out := make([]Topic, len(names))
	for i, name := range names {
		d, ok := existing[name]
		out[i] = Topic{Name: name, Exists: ok, Partitions: d.NumPartitions, Replication: d.ReplicationFactor}
		if !ok {
			continue
		}
		config, err := a.config(name)
		if err != nil {
			return nil, err
		}
		out[i].Cleanup = config["cleanup.policy"]
		if out[i].Records, err = a.records(name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (a *Admin) records(topic string) (int64, error) {
	if err := a.client.RefreshMetadata(topic); err != nil {
		return 0, fmt.Errorf("find the partitions of topic %s: %w", topic, err)
	}
	partitions, err := a.client.Partitions(topic)
	if err != nil {
		return 0, fmt.Errorf("find the partitions of topic %s: %w", topic, err)
	}
	var sum int64
	for _, p := range partitions {
		newest, err := a.client.GetOffset(topic, p, sarama.OffsetNewest)
		if err != nil {
			return 0, fmt.Errorf("find the newest offset of topic %s, partition %d: %w", topic, p, err)
		}
		oldest, err := a.client.GetOffset(topic, p, sarama.OffsetOldest)
		if err != nil {
			return 0, fmt.Errorf("find the oldest offset of topic %s, partition %d: %w", topic, p, err)
		}
		sum += newest - oldest
	}
	return sum, nil
}

// highWatermark is the protocol's word for "everything" in DeleteRecords.
const highWatermark = -1

// Reset empties the topics named that exist and returns them. Partitions, configuration and the groups' offsets stay. A
// topic that is only compacted does not let records be deleted; it is deleted and created again as it was.
func (a *Admin) Reset(ctx context.Context, names []string) ([]string, error) {
	existing, err := a.admin.ListTopics()
	if err != nil {
		return nil, fmt.Errorf("list the topics: %w", err)
	}
	var done []string
	for _, name := range names {
		detail, ok := existing[name]
		if !ok {
			continue
		}
		config, err := a.config(name)
		if err != nil {
			return done, err
		}
		if slices.Contains(strings.Split(config["cleanup.policy"], ","), "delete") {
			offsets := make(map[int32]int64, detail.NumPartitions)
			for p := range detail.NumPartitions {
				offsets[p] = highWatermark
			}
			err = a.admin.DeleteRecords(name, offsets)
		} else {
			err = a.recreate(ctx, name, detail)
		}
		if err != nil {
			return done, fmt.Errorf("empty topic %s: %w", name, err)
		}
		done = append(done, name)
	}
	return done, nil
}

func (a *Admin) recreate(ctx context.Context, name string, detail sarama.TopicDetail) error {
	if err := a.admin.DeleteTopic(name); err != nil {
		return fmt.Errorf("delete it: %w", err)
	}
	detail.ReplicaAssignment = nil // the broker chooses anew
	// Deletion goes on behind the answer; until it is over the name is taken.
	again := await.Policy{
		What: "the deletion of topic " + name, MaxWait: time.Minute, Log: a.log,
		Heals: func(err error) bool { return errors.Is(err, sarama.ErrTopicAlreadyExists) },
	}
	_, err := await.For(ctx, again, func() (struct{}, error) {
		return struct{}{}, a.admin.CreateTopic(name, &detail, false) //nolint:wrapcheck // wrapped by the caller
	})
	return err //nolint:wrapcheck // wrapped by the caller
}
