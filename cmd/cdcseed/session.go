package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cdcseed/cdcseed/await"
	"github.com/cdcseed/cdcseed/debezium"
	"github.com/cdcseed/cdcseed/migrations"
	"github.com/cdcseed/cdcseed/models"
	"github.com/cdcseed/cdcseed/postgres"
	"github.com/cdcseed/cdcseed/topics"
)

// bookkeeping are the tables in the schema that are not captured.
var bookkeeping = []string{migrations.MarkerTable, migrations.MigrationsTable}

// newRunID names this run in the marker.
func newRunID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// session is an open database with what a command knows about it.
type session struct {
	p      *program
	db     *postgres.DB
	server postgres.Server
	opts   databaseOptions
	target migrations.Target
}

// withDatabase opens the database, waits for it, and runs fn.
func (p *program) withDatabase(ctx context.Context, o databaseOptions, fn func(*session) error) (err error) {
	db, err := postgres.Open(ctx, o.Config)
	if err != nil {
		return err
	}
	defer db.Close()
	server, err := db.WaitReady(ctx, o.maxWait, p.log)
	if err != nil {
		return err
	}
	if err := server.Writable(); err != nil {
		return fmt.Errorf("%s: %w", db.Name(), err)
	}
	s := &session{p: p, db: db, server: server, opts: o, target: migrations.Target{
		Schema: o.Schema, Publication: o.publication, RunID: newRunID(), Version: buildVersion(),
	}}
	return fn(s)
}

// setup runs fn under the schema's setup lock.
func (s *session) setup(ctx context.Context, fn func(ctx context.Context) error) error {
	return s.db.WithSetup(ctx, func() {
		s.p.log.Info("waiting for another cdcseed that sets up the same schema", "schema", s.db.Schema)
	}, fn)
}

// withKafka connects to Kafka and runs fn.
func (p *program) withKafka(ctx context.Context, k topics.Cluster, maxWait time.Duration, fn func(*topics.Admin) error) error {
	admin, err := topics.Dial(ctx, k, maxWait, p.log)
	if err != nil {
		return err
	}
	return errors.Join(fn(admin), admin.Close())
}

func topicNames(prefix, schema string) topics.Names {
	return topics.NamesOf(prefix, schema, models.Names(models.Tables()))
}

// createTopics makes the topics and tells what differs.
func (p *program) createTopics(admin *topics.Admin, names topics.Names, s topics.Settings) (topics.Created, error) {
	created, err := admin.Create(names, s)
	if err != nil {
		return created, err
	}
	p.log.Info("topics are there", "created", len(created.New), "kept", len(created.Kept))
	for _, d := range created.Differences {
		p.log.Warn("an existing topic differs and is kept as it is", "topic", d.Topic, "setting", d.Setting, "want", d.Want, "have", d.Have)
	}
	return created, nil
}

// adopts tells whether the connector of that name in Connect captures this very schema through this very slot, so that it
// is ours even if the marker, which goes with the tables, does not know it. A connector that does something else is
// refused.
func adopts(ctx context.Context, client *debezium.Client, conn debezium.Connector, state migrations.State) (exists, ours bool, err error) {
	have, err := client.Config(ctx, conn.Name)
	if errors.Is(err, debezium.ErrNotFound) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	want := conn.Config()
	for _, k := range []string{"connector.class", "database.dbname", "schema.include.list", "slot.name", "topic.prefix"} {
		if have[k] != want[k] {
			if state.Lists(migrations.KindConnector, conn.Name) {
				return true, true, nil // ours, about to be configured anew
			}
			return true, false, fmt.Errorf("connector %q at %s is not of this shop (its %s is %q, not %q); choose another name with --connector: %w",
				conn.Name, client.Address(), k, have[k], want[k], postgres.ErrRefused)
		}
	}
	return true, true, nil
}

// claim makes sure that the connector and the slot of these names are this shop's, if they exist: the marker lists them,
// or the connector captures this schema through this slot.
func (s *session) claim(ctx context.Context, client *debezium.Client, conn debezium.Connector, state migrations.State) (exists bool, slot postgres.Slot, err error) {
	exists, ours, err := adopts(ctx, client, conn, state)
	if err != nil {
		return exists, slot, err
	}
	if slot, err = s.db.Slot(ctx, conn.Slot); err != nil {
		return exists, slot, err
	}
	if slot.Exists && !ours && !state.Lists(migrations.KindSlot, conn.Slot) {
		return exists, slot, fmt.Errorf("replication slot %q exists and is not of this shop; choose another with --slot: %w", conn.Slot, postgres.ErrRefused)
	}
	return exists, slot, nil
}

// applyConnector registers the connector and waits until every later change is sure to be streamed: the task runs and the
// slot has its starting point.
func (s *session) applyConnector(ctx context.Context, client *debezium.Client, conn debezium.Connector) error {
	slot, err := s.db.Slot(ctx, conn.Slot)
	if err != nil {
		return err
	}
	// Recorded first: if we are cut off in between, the next replace still knows what to take away.
	if err := s.target.Mark(ctx, s.db.Pool, migrations.KindConnector, conn.Name, map[string]string{"url": client.Address()}); err != nil {
		return err
	}
	if err := s.target.Mark(ctx, s.db.Pool, migrations.KindSlot, conn.Slot, nil); err != nil {
		return err
	}
	if err := client.Apply(ctx, conn, !slot.Exists); err != nil {
		return err
	}
	if err := client.WaitRunning(ctx, conn.Name); err != nil {
		return err
	}
	if err := s.waitConsistent(ctx, client, conn); err != nil {
		return err
	}
	s.p.log.Info("connector is running", "connector", conn.Name, "slot", conn.Slot, "publication", conn.Publication)
	return nil
}

// resetConnector stops the connector, makes it forget its offsets, and drops the slot. client may be nil when there is no
// Connect to ask; then nobody may read the slot.
func (s *session) resetConnector(ctx context.Context, client *debezium.Client, name, slot string) error {
	if client != nil {
		if err := client.Stop(ctx, name); err != nil {
			return err
		}
		if err := client.DeleteOffsets(ctx, name); err != nil {
			return err
		}
	}
	if err := s.db.DropSlot(ctx, slot, s.opts.maxWait); err != nil {
		return err
	}
	s.p.log.Info("connector is stopped and forgets; its slot is gone", "connector", name, "slot", slot)
	return nil
}

// printJSON writes a value as indented JSON.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}

func concat(groups ...[]cli.Flag) []cli.Flag {
	var out []cli.Flag
	for _, g := range groups {
		out = append(out, g...)
	}
	return out
}

// waitConsistent waits until the slot has its starting point, or the connector fails.
func (s *session) waitConsistent(ctx context.Context, client *debezium.Client, conn debezium.Connector) error {
	wait := await.Policy{What: fmt.Sprintf("the starting point of slot %q", conn.Slot), MaxWait: s.opts.maxWait, Log: s.p.log}
	wait.Heals = func(err error) bool { return errors.Is(err, errNoStart) }
	_, err := await.For(ctx, wait, func() (struct{}, error) {
		slot, err := s.db.Slot(ctx, conn.Slot)
		if err != nil || slot.Consistent {
			return struct{}{}, err
		}
		status, err := client.Status(ctx, conn.Name)
		if err == nil {
			err = status.Err()
		}
		if err == nil {
			err = errNoStart
		}
		return struct{}{}, err
	})
	return err
}

var errNoStart = errors.New("a transaction older than the slot may still be open (see pg_stat_activity)")
