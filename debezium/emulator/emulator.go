// Package emulator stands on the data's way where Debezium does, in a process that has no Java: it takes the snapshot and
// reads the slot through pgoutput as the connector would, and writes the same topics with the same envelope. It is a
// stand-in for the embedded engine; the real Debezium is the reference, and tests hold the two against each other.
package emulator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/cdcseed/cdcseed/debezium"
)

// Version is the Debezium whose envelope is written, as source.version.
const Version = "3.6.3.Final"

// Config says what to capture and where to write.
type Config struct {
	Conn      *pgx.ConnConfig    // of the database; replication privileges
	Connector debezium.Connector // what the real one would be told
	Brokers   []string
	Kafka     *sarama.Config // how to reach them; producer settings are overwritten
	// SnapshotDone remembers, beside the slot, that its snapshot was written to the end. A slot without it is dropped and
	// the snapshot taken anew.
	SnapshotDone func(ctx context.Context) (bool, error)
	MarkSnapshot func(ctx context.Context) error
}

// ErrGap means that changes are lost to this reader: the slot is gone, was invalidated, or moved past what was delivered.
var ErrGap = errors.New("changes are lost")

// inFlight bounds the records that the broker has not acknowledged yet.
const inFlight = 10_000

// standbyInterval is how often the server is told what is delivered.
const standbyInterval = 250 * time.Millisecond

// confirmAhead is how much WAL may be delivered before the server is told at once, in bytes.
const confirmAhead = 16 << 20

// Emulator captures one database.
type Emulator struct {
	cfg    Config
	log    *slog.Logger
	tables map[string]*table // by name
	names  []string          // sorted, as the snapshot goes
	out    *producer
	now    func() time.Time

	relations map[uint32]*relation
	tx        transaction
	told      pglogrepl.LSN // what the server was told last
	lastEnd   pglogrepl.LSN // end of the commit before the current transaction
}

// transaction is the one that the stream is in.
type transaction struct {
	open   bool
	begun  bool // its BEGIN is written, because it holds an event of ours
	id     uint32
	commit time.Time
	total  int64
	counts map[string]int64
	order  []string // of the tables' first events
}

// New makes an emulator; Run works.
func New(cfg Config, log *slog.Logger) *Emulator {
	return &Emulator{cfg: cfg, log: log, now: time.Now, relations: map[uint32]*relation{}}
}

// Run captures until ctx ends. It calls ready once, when every later change is sure to be streamed. What was written when
// it ends is acknowledged; what was not is read again by the next Run.
func (e *Emulator) Run(ctx context.Context, ready func()) (err error) {
	conn, err := pgx.ConnectConfig(ctx, e.plainConfig())
	if err != nil {
		return fmt.Errorf("emulator: connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := e.loadTables(ctx, conn); err != nil {
		return err
	}
	repl, err := pgconn.ConnectConfig(ctx, e.replicationConfig())
	if err != nil {
		return fmt.Errorf("emulator: connect for replication: %w", err)
	}
	defer func() { _ = repl.Close(context.WithoutCancel(ctx)) }()
	if e.out, err = newProducer(e.cfg.Brokers, e.cfg.Kafka); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.out.close()) }()

	e.log.Warn("this is an emulation of Debezium, not Debezium", "emulates", Version, "slot", e.cfg.Connector.Slot)
	from, err := e.begin(ctx, conn, repl, ready)
	if err == nil {
		err = e.stream(ctx, conn, repl, from)
	}
	if ctx.Err() != nil {
		return nil // what is not delivered stays in the slot
	}
	return err
}

func (e *Emulator) plainConfig() *pgx.ConnConfig {
	c := e.cfg.Conn.Copy()
	if c.RuntimeParams == nil {
		c.RuntimeParams = map[string]string{}
	}
	for k, v := range sessionSettings {
		c.RuntimeParams[k] = v
	}
	c.RuntimeParams["application_name"] = "cdcseed emulator"
	return c
}

func (e *Emulator) replicationConfig() *pgconn.Config {
	c := e.plainConfig()
	c.RuntimeParams["replication"] = "database"
	delete(c.RuntimeParams, "search_path")
	return &c.Config
}

// sessionSettings make the server write values in the one way that values.go reads.
var sessionSettings = map[string]string{
	"timezone": "UTC", "datestyle": "ISO, MDY", "intervalstyle": "iso_8601", "bytea_output": "hex", "extra_float_digits": "3",
}

// begin finds or makes the slot, takes the snapshot if there is none, and returns where streaming starts.
func (e *Emulator) begin(ctx context.Context, conn *pgx.Conn, repl *pgconn.PgConn, ready func()) (pglogrepl.LSN, error) {
	slot := e.cfg.Connector.Slot
	if !debezium.ValidSlot(slot) {
		return 0, fmt.Errorf("emulator: %q is no name of a slot", slot)
	}
	var confirmed, status *string
	err := conn.QueryRow(ctx, "SELECT confirmed_flush_lsn::text, wal_status FROM pg_replication_slots WHERE slot_name = $1", slot).Scan(&confirmed, &status)
	exists := err == nil
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("emulator: look at slot %q: %w", slot, err)
	}
	done, err := e.cfg.SnapshotDone(ctx)
	if err != nil {
		return 0, fmt.Errorf("emulator: look whether the snapshot was taken: %w", err)
	}
	switch {
	case exists && status != nil && *status == "lost":
		return 0, fmt.Errorf("emulator: slot %q was invalidated (max_slot_wal_keep_size): %w", slot, ErrGap)
	case !exists && done:
		return 0, fmt.Errorf("emulator: slot %q is gone, though its snapshot was taken: %w", slot, ErrGap)
	case exists && done && confirmed != nil:
		from, err := pglogrepl.ParseLSN(*confirmed)
		if err != nil {
			return 0, fmt.Errorf("emulator: position of slot %q: %w", slot, err)
		}
		e.log.Info("emulator goes on", "slot", slot, "from", from)
		ready()
		return from, nil
	case exists:
		// Cut off within the snapshot: what it wrote is written again, as Debezium does.
		if _, err := conn.Exec(ctx, "SELECT pg_drop_replication_slot($1)", slot); err != nil {
			return 0, fmt.Errorf("emulator: drop slot %q, whose snapshot was cut off: %w", slot, err)
		}
	}
	made, err := pglogrepl.CreateReplicationSlot(ctx, repl, slot, "pgoutput",
		pglogrepl.CreateReplicationSlotOptions{SnapshotAction: "EXPORT_SNAPSHOT", Mode: pglogrepl.LogicalReplication})
	if err != nil {
		return 0, fmt.Errorf("emulator: create slot %q: %w", slot, err)
	}
	from, err := pglogrepl.ParseLSN(made.ConsistentPoint)
	if err != nil {
		return 0, fmt.Errorf("emulator: consistent point of slot %q: %w", slot, err)
	}
	// The exported snapshot lives as long as the connection that made the slot does nothing else.
	if err := e.snapshot(ctx, conn, made.SnapshotName, from, ready); err != nil {
		return 0, err
	}
	if err := e.out.flush(ctx); err != nil {
		return 0, err
	}
	if err := e.cfg.MarkSnapshot(ctx); err != nil {
		return 0, fmt.Errorf("emulator: note that the snapshot was taken: %w", err)
	}
	return from, nil
}

// stream reads the slot until ctx ends.
func (e *Emulator) stream(ctx context.Context, conn *pgx.Conn, repl *pgconn.PgConn, from pglogrepl.LSN) error {
	c := e.cfg.Connector
	err := pglogrepl.StartReplication(ctx, repl, c.Slot, from, pglogrepl.StartReplicationOptions{
		Mode:       pglogrepl.LogicalReplication,
		PluginArgs: []string{"proto_version '1'", fmt.Sprintf("publication_names '%s'", c.Publication)},
	})
	if err != nil {
		return fmt.Errorf("emulator: start reading slot %q: %w", c.Slot, err)
	}
	e.out.delivered(from)
	e.told = from
	e.lastEnd = 0

	var beat sync.WaitGroup
	defer beat.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	beat.Go(func() { e.heartbeats(ctx, conn) })

	next := e.now()
	for {
		if at := e.out.position(); !e.now().Before(next) || at-e.told > confirmAhead {
			// At each interval the server is asked where it is: of transactions that hold nothing of ours it says nothing by itself.
			if err := e.confirm(ctx, repl, !e.now().Before(next)); err != nil {
				return err
			}
			next = e.now().Add(standbyInterval)
		}
		wait, stop := context.WithDeadline(ctx, next)
		msg, err := repl.ReceiveMessage(wait)
		stop()
		if err != nil {
			if ctx.Err() != nil {
				return errors.Join(e.out.flush(context.WithoutCancel(ctx)), e.confirm(context.WithoutCancel(ctx), repl, false))
			}
			if pgconn.Timeout(err) {
				continue
			}
			return fmt.Errorf("emulator: read slot %q: %w", c.Slot, err)
		}
		if err := e.out.failed(); err != nil {
			return err
		}
		switch msg := msg.(type) {
		case *pgproto3.ErrorResponse:
			return fmt.Errorf("emulator: read slot %q: %w", c.Slot, pgconn.ErrorResponseToPgError(msg))
		case *pgproto3.CopyData:
			if err := e.copyData(ctx, msg.Data, &next); err != nil {
				return err
			}
		}
	}
}

// copyData takes a message of the replication protocol.
func (e *Emulator) copyData(ctx context.Context, data []byte, next *time.Time) error {
	if len(data) == 0 {
		return errors.New("emulator: an empty message")
	}
	switch data[0] {
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		k, err := pglogrepl.ParsePrimaryKeepaliveMessage(data[1:])
		if err != nil {
			return fmt.Errorf("emulator: read a keepalive: %w", err)
		}
		if !e.tx.open {
			// Nothing of ours lies before this position, so the slot may follow once all before it is acknowledged.
			e.out.reach(k.ServerWALEnd)
		}
		if k.ReplyRequested {
			*next = time.Time{}
		}
	case pglogrepl.XLogDataByteID:
		x, err := pglogrepl.ParseXLogData(data[1:])
		if err != nil {
			return fmt.Errorf("emulator: read WAL data: %w", err)
		}
		return e.message(ctx, x.WALStart, x.WALData)
	}
	return nil
}

// confirm tells the server up to where everything is delivered, and nothing beyond.
func (e *Emulator) confirm(ctx context.Context, repl *pgconn.PgConn, ask bool) error {
	at := e.out.position()
	err := pglogrepl.SendStandbyStatusUpdate(ctx, repl, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: at, WALFlushPosition: at, WALApplyPosition: at, ReplyRequested: ask,
	})
	if err != nil {
		return fmt.Errorf("emulator: confirm %s: %w", at, err)
	}
	e.told = at
	return nil
}

// heartbeats writes Debezium's heartbeat and runs its action query.
func (e *Emulator) heartbeats(ctx context.Context, conn *pgx.Conn) {
	every := e.cfg.Connector.HeartbeatInterval
	if every <= 0 {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			key, value := e.heartbeat()
			if err := e.out.send(ctx, "__debezium-heartbeat."+e.cfg.Connector.TopicPrefix, key, value); err != nil {
				return // the stream hears of it
			}
			if _, err := conn.Exec(ctx, e.cfg.Connector.HeartbeatQuery()); err != nil && ctx.Err() == nil {
				e.log.Warn("the heartbeat's query failed", "reason", err)
			}
		}
	}
}
