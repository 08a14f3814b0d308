package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cdcseed/cdcseed/await"
	"github.com/cdcseed/cdcseed/debezium"
	"github.com/cdcseed/cdcseed/debezium/emulator"
	"github.com/cdcseed/cdcseed/embedded"
	"github.com/cdcseed/cdcseed/migrations"
	"github.com/cdcseed/cdcseed/models"
	"github.com/cdcseed/cdcseed/topics"
)

// demoRetention is what each partition of the embedded broker keeps by default, since it keeps it in memory.
const demoRetention = 16 << 20

func (p *program) demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "everything in one program: a local Postgres, a broker and an emulation of Debezium, with the living shop on them",
		Flags: concat(runFlags(ifExistsAppend), flags(
			&cli.StringFlag{Name: "data-dir", DefaultText: "a temporary one, removed at the end", Usage: "`FOLDER` that keeps tables and topics"},
			&cli.IntFlag{Name: "kafka-port", Value: 9092, Usage: "`PORT` of the broker; if it is taken, a free one"},
			&cli.StringFlag{Name: "postgres-bin", DefaultText: "found on this machine", Usage: "`FOLDER` with initdb and postgres, 14 or newer"},
		)),
		Before: readConfig,
		Action: func(c *cli.Context) error {
			o, err := readRun(c, time.Now())
			if err != nil {
				return err
			}
			cfg := embedded.Config{
				DataDir: c.String("data-dir"), KafkaPort: c.Int("kafka-port"), PostgresBin: c.String("postgres-bin"),
				User: "db_user", Database: "fh_dev", MaxWait: max(o.db.maxWait, 15*time.Minute),
			}
			if cfg.KafkaPort < 0 || cfg.KafkaPort > 65535 {
				return bad("kafka-port", cfg.KafkaPort)
			}
			if cfg.DataDir != "" {
				if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
					return usagef("--data-dir: %v", err)
				}
			}
			if base, err := os.UserCacheDir(); err == nil {
				cfg.CacheDir = filepath.Join(base, "cdcseed")
			}
			return p.demo(o, cfg)
		},
	}
}

func (p *program) demo(o runOptions, cfg embedded.Config) (err error) {
	ctx := p.signals.untilStopped()
	if !o.json {
		p.log.Info("the embedded engine starts: local Postgres, broker in this process, emulated Debezium")
	}
	engine, err := embedded.Start(ctx, cfg, p.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close(context.WithoutCancel(ctx))) }()

	// Whatever the flags say of servers, these are the ones.
	o.db.Conn, o.db.password = engine.Conn, engine.Conn.Password
	o.connector.Host, o.connector.Port = engine.Conn.Host, int(engine.Conn.Port)
	o.connector.User, o.connector.Database, o.connector.Password = engine.Conn.User, engine.Conn.Database, engine.Conn.Password
	o.cluster = topics.Cluster{Brokers: []string{engine.Broker}}
	o.kafka, o.url = true, ""
	if _, set := o.settings.Config["retention.bytes"]; !set {
		o.settings.Config["retention.bytes"] = strconv.Itoa(demoRetention)
	}
	o.capture = p.emulate(o)
	p.printPlaces(o, engine)
	return p.runShop(o)
}

// printPlaces says where to connect. With --json stdout belongs to the summary.
func (p *program) printPlaces(o runOptions, e *embedded.Engine) {
	w := p.out
	if o.json {
		w = p.err
	}
	c := e.Conn
	_, _ = fmt.Fprintf(w, "psql    PGPASSWORD=%s psql -h %s -p %d -U %s -d %s\n", c.Password, c.Host, c.Port, c.User, c.Database)
	_, _ = fmt.Fprintf(w, "%-8skcat -b %s -t %s -C\n", "kcat", e.Broker, o.names.Tables[4])
	_, _ = fmt.Fprintf(w, "tail    cdcseed tail --bootstrap-servers %s\n", e.Broker)
	_, _ = fmt.Fprintf(w, "topics  %s\n", strings.Join(o.names.All(), " "))
	_, _ = fmt.Fprintf(w, "keeps   %s bytes of each partition, in memory\n", o.settings.Config["retention.bytes"])
}

// snapshotRecord is what the marker keeps of the emulator's slot.
type snapshotRecord struct {
	Snapshot bool `json:"snapshot_done"`
}

// emulate makes the capture of the embedded engine.
func (p *program) emulate(o runOptions) func(context.Context, *session) (capture, error) {
	return func(ctx context.Context, s *session) (capture, error) {
		kafka, err := o.cluster.Config()
		if err != nil {
			return nil, err
		}
		slot := o.connector.Slot
		var rec snapshotRecord
		known, err := migrations.Details(ctx, s.db.Pool, migrations.KindSlot, slot, &rec)
		if err != nil {
			return nil, err
		}
		if !known {
			if err := s.target.Mark(ctx, s.db.Pool, migrations.KindSlot, slot, rec); err != nil {
				return nil, err
			}
		}
		e := emulator.New(emulator.Config{
			Conn: o.db.Conn, Connector: o.connector, Brokers: o.cluster.Brokers, Kafka: kafka,
			SnapshotDone: func(context.Context) (bool, error) { return rec.Snapshot, nil },
			MarkSnapshot: func(ctx context.Context) error {
				return s.target.Mark(ctx, s.db.Pool, migrations.KindSlot, slot, snapshotRecord{Snapshot: true})
			},
		}, p.log)
		// The emulator outlives the first signal: what was committed is delivered before it ends.
		run, cancel := context.WithCancel(p.signals.ctx)
		c := &emulation{s: s, o: o, cancel: cancel, ended: make(chan struct{}), fresh: !rec.Snapshot}
		ready := make(chan struct{})
		go func() {
			defer close(c.ended)
			c.err = e.Run(run, func() { close(ready) })
		}()
		select {
		case <-ready:
			return c, nil
		case <-c.ended:
			cancel()
			return nil, c.err
		}
	}
}

// emulation is a running emulator.
type emulation struct {
	s      *session
	o      runOptions
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // after ended
	fresh  bool  // it has seen the shop from its first row
}

func (c *emulation) failed() <-chan struct{} { return c.ended }

// topicEvents are what the topics hold, by table.
type topicEvents struct {
	Tables map[string]eventCounts `json:"tables"`
	// Equal tells whether they are the rows of the summary, table by table and kind by kind. It is left out when the topics
	// hold events of earlier runs, or retention has taken some.
	Equal *bool `json:"equal,omitempty"`
}

// eventCounts are the events of a table by op.
type eventCounts struct {
	Read      int64 `json:"read"`
	Create    int64 `json:"create"`
	Update    int64 `json:"update"`
	Delete    int64 `json:"delete"`
	Tombstone int64 `json:"tombstone"`
	Truncate  int64 `json:"truncate"`
}

var errDiffer = errors.New("the topics do not hold what the tables went through")

func (c *emulation) finish(ctx context.Context, rep *report) error {
	waitErr := c.delivered(ctx)
	c.cancel()
	<-c.ended
	if err := errors.Join(c.err, waitErr); err != nil {
		return err
	}
	return c.s.p.withKafka(ctx, c.o.cluster, c.s.opts.maxWait, func(a *topics.Admin) error {
		rep.Events = &topicEvents{Tables: map[string]eventCounts{}}
		by, complete, err := count(ctx, a, c.o.names.Tables)
		if err != nil {
			return err
		}
		equal := true
		for i, table := range models.Names(models.Tables()) {
			counts := *by[c.o.names.Tables[i]]
			rep.Events.Tables[table] = counts
			rows := rep.Workload.Tables[table]
			if table != models.TableHeartbeat && (counts.Read != int64(rep.Seeded[table]) || counts.Create != rows.Insert ||
				counts.Update != rows.Update || counts.Delete != rows.Delete || counts.Tombstone != rows.Delete) {
				equal = false
			}
		}
		if !complete || !c.fresh {
			return nil
		}
		rep.Events.Equal = &equal
		if !equal {
			return errDiffer
		}
		return nil
	})
}

// delivered waits until the slot is confirmed up to now, or the emulator has failed.
func (c *emulation) delivered(ctx context.Context) error {
	var now string
	if err := c.s.db.Pool.QueryRow(ctx, "SELECT pg_current_wal_lsn()::text").Scan(&now); err != nil {
		return fmt.Errorf("ask for the position of the WAL: %w", err)
	}
	wait := await.Policy{What: "the delivery of the last events", MaxWait: c.s.opts.maxWait, Log: c.s.p.log}
	wait.Heals = func(err error) bool { return errors.Is(err, errNotDelivered) }
	_, err := await.For(ctx, wait, func() (struct{}, error) {
		select {
		case <-c.ended:
			return struct{}{}, nil // its own error says more
		default:
		}
		var done bool
		err := c.s.db.Pool.QueryRow(ctx, "SELECT confirmed_flush_lsn >= $2::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $1",
			c.o.connector.Slot, now).Scan(&done)
		if err == nil && !done {
			err = errNotDelivered
		}
		return struct{}{}, err
	})
	return err
}

var errNotDelivered = errors.New("events are under way")

// count counts the topics' events by op. whole tells whether they still hold their first events.
func count(ctx context.Context, a *topics.Admin, names []string) (by map[string]*eventCounts, whole bool, err error) {
	whole = true
	by = map[string]*eventCounts{}
	for _, name := range names {
		by[name] = &eventCounts{}
	}
	type partition struct {
		topic string
		n     int32
	}
	seen := map[partition]bool{}
	err = a.Consume(ctx, names, topics.Oldest, false, func(r topics.Record) error {
		if p := (partition{r.Topic, r.Partition}); !seen[p] {
			seen[p] = true
			whole = whole && r.Offset == 0
		}
		ev, err := debezium.Decode(r.Key, r.Value)
		if err != nil {
			return fmt.Errorf("topic %s, partition %d, offset %d: %w", r.Topic, r.Partition, r.Offset, err)
		}
		n := by[r.Topic]
		if ev.Tombstone {
			n.Tombstone++
			return nil
		}
		switch ev.Envelope.Op {
		case debezium.OpRead:
			n.Read++
		case debezium.OpCreate:
			n.Create++
		case debezium.OpUpdate:
			n.Update++
		case debezium.OpDelete:
			n.Delete++
		case debezium.OpTruncate:
			n.Truncate++
		case debezium.OpMessage:
		}
		return nil
	})
	return by, whole, err
}
