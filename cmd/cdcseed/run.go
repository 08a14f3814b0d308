package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cdcseed/cdcseed/debezium"
	"github.com/cdcseed/cdcseed/migrations"
	"github.com/cdcseed/cdcseed/postgres"
	"github.com/cdcseed/cdcseed/shop"
	"github.com/cdcseed/cdcseed/topics"
	"github.com/cdcseed/cdcseed/workload"
)

// What --if-exists takes.
const (
	ifExistsFail    = "fail"
	ifExistsReplace = "replace"
	ifExistsAppend  = "append"
)

func runFlags(ifExists string) []cli.Flag {
	return concat(
		configFlag(),
		flags(
			&cli.Float64Flag{Name: "avg-qps", Value: 10, Usage: "row changes, that is change events, per second, all tables together; 0: as fast as possible"},
			&cli.StringFlag{Name: "if-exists", Value: ifExists, Usage: "`WHAT` to do when the tables exist: fail, replace (everything back to zero) or append (go on)"},
			&cli.IntFlag{Name: "max-iter", Value: -1, Usage: "end after so many transactions; -1: never"},
			&cli.DurationFlag{Name: "duration", Usage: "end after this time; 0: never"},
			&cli.StringFlag{Name: "mix", Value: "insert=60,update=30,delete=10", Usage: "`SHARES` of the kinds among the row changes"},
			&cli.IntFlag{Name: "workers", Value: 4, Usage: "connections that commit at the same time"},
		),
		seedFlags(), databaseFlags(), kafkaFlags(), prefixFlag(),
		flags(
			&cli.BoolFlag{Name: "create-topic", Value: true, Usage: "create the topics before anything is written"},
			&cli.BoolFlag{Name: "no-create-topic", Usage: "leave Kafka alone"},
		),
		topicFlags(), connectURLFlag(""), connectorFlags(), jsonFlag(), dryRunFlag(),
	)
}

func (p *program) runCommand() *cli.Command {
	return &cli.Command{
		Name:   "run",
		Usage:  "do all of it: topics, tables, history, connector, and then the living shop",
		Flags:  runFlags(ifExistsFail),
		Before: readConfig,
		Action: func(c *cli.Context) error {
			o, err := readRun(c, time.Now())
			if err != nil {
				return err
			}
			return p.runShop(o)
		},
	}
}

type runOptions struct {
	db        databaseOptions
	cluster   topics.Cluster
	kafka     bool // whether Kafka is spoken to
	names     topics.Names
	settings  topics.Settings
	connector debezium.Connector
	url       string // of Connect; empty: no connector
	history   shop.HistoryConfig
	fixed     bool // whether the start time was given, so that rows carry times counted from it
	mix       shop.Mix
	workload  workload.Config
	ifExists  string
	json, dry bool
	// capture, if set, stands in for Connect: it starts to capture once the tables are filled, and returns how to end it.
	capture func(ctx context.Context, s *session) (capture, error)
}

// capture is a running stand-in for Connect.
type capture interface {
	// finish waits until all that was committed is delivered, ends the capture, and puts what the topics hold into the report.
	finish(ctx context.Context, rep *report) error
	// failed is closed when the capture has ended by itself.
	failed() <-chan struct{}
}

func readRun(c *cli.Context, now time.Time) (o runOptions, err error) {
	if o.db, err = readDatabase(c); err != nil {
		return o, err
	}
	prefix, err := readPrefix(c)
	if err != nil {
		return o, err
	}
	o.names = topicNames(prefix, o.db.Schema)
	if o.cluster, err = readCluster(c); err != nil {
		return o, err
	}
	if o.settings, err = readTopicSettings(c); err != nil {
		return o, err
	}
	if o.url, err = readConnectURL(c); err != nil {
		return o, err
	}
	if o.connector, err = readConnector(c, o.db, prefix, o.settings.Config); err != nil {
		return o, err
	}
	if o.history, err = readHistory(c, now); err != nil {
		return o, err
	}
	o.kafka = c.Bool("create-topic") && !c.Bool("no-create-topic")
	o.fixed = c.String("start-time") != ""
	o.json, o.dry = c.Bool("json"), c.Bool("dry-run")
	o.ifExists = c.String("if-exists")
	if !slices.Contains([]string{ifExistsFail, ifExistsReplace, ifExistsAppend}, o.ifExists) {
		return o, bad("if-exists", fmt.Sprintf("%q", o.ifExists))
	}
	if o.mix, err = shop.ParseMix(c.String("mix")); err != nil {
		return o, usagef("--mix %q: %v; allowed is %s", c.String("mix"), err, allowed["mix"])
	}
	o.workload = workload.Config{
		Rate: c.Float64("avg-qps"), MaxIter: c.Int("max-iter"), Duration: c.Duration("duration"),
		Workers: c.Int("workers"), MaxWait: o.db.maxWait,
	}
	switch w := o.workload; {
	case !(w.Rate >= 0) || w.Rate > 1e7:
		return o, bad("avg-qps", w.Rate)
	case w.MaxIter < 1 && w.MaxIter != -1:
		return o, bad("max-iter", w.MaxIter)
	case w.Duration < 0:
		return o, bad("duration", w.Duration)
	case w.Workers < 1 || w.Workers > shop.Shards:
		return o, bad("workers", w.Workers)
	}
	o.db.MaxConns = o.workload.Workers + 6
	return o, nil
}

// report is what a run prints at its end.
type report struct {
	Version     string            `json:"version"`
	RunID       string            `json:"run_id"`
	Run         int               `json:"run"`
	Schema      string            `json:"schema"`
	TopicPrefix string            `json:"topic_prefix"`
	IfExists    string            `json:"if_exists"`
	RandSeed    uint64            `json:"rand_seed"`
	StartTime   time.Time         `json:"start_time"`
	Seeded      map[string]int    `json:"seeded"` // rows of this start; empty when the tables were filled before
	Topics      *topics.Created   `json:"topics,omitempty"`
	Workload    *workload.Summary `json:"workload,omitempty"`
	Events      *topicEvents      `json:"events,omitempty"` // of the embedded engine
}

func (p *program) runShop(o runOptions) error {
	setupCtx := p.signals.untilStopped() // until the workload begins, the first signal ends all
	var client *debezium.Client
	if o.url != "" {
		var err error
		if client, err = debezium.NewClient(o.url, o.db.maxWait, p.log); err != nil {
			return usagef("--connect-url: %v", err)
		}
		defer client.Close()
	}
	return p.withDatabase(setupCtx, o.db, func(s *session) error {
		if err := s.server.Logical(); err != nil {
			return fmt.Errorf("%s: %w", s.db.Name(), err)
		}
		if !o.kafka {
			return s.live(setupCtx, o, nil, client)
		}
		return p.withKafka(setupCtx, o.cluster, o.db.maxWait, func(admin *topics.Admin) error {
			return s.live(setupCtx, o, admin, client)
		})
	})
}

// live sets everything up and runs the workload. admin and client are nil where Kafka and Connect are left alone.
func (s *session) live(ctx context.Context, o runOptions, admin *topics.Admin, client *debezium.Client) (err error) {
	if client != nil {
		version, err := client.WaitReady(ctx)
		if err != nil {
			return err
		}
		s.p.log.Debug("Kafka Connect answers", "url", client.Address(), "version", version)
	}
	rep := &report{
		Version: s.target.Version, RunID: s.target.RunID, Schema: s.db.Schema, TopicPrefix: o.connector.TopicPrefix,
		IfExists: o.ifExists, RandSeed: o.history.Seed, StartTime: o.history.Start,
	}
	var own *postgres.Ownership
	err = s.setup(ctx, func(ctx context.Context) (err error) {
		if !o.dry {
			// Before anything changes: a workload that runs must not lose its tables.
			if own, err = s.db.Own(ctx, 0, shop.Shards); err != nil {
				return err
			}
		}
		return s.setUp(ctx, o, admin, client, rep)
	})
	if own != nil {
		defer func() { _ = own.Close(context.WithoutCancel(ctx)) }()
	}
	if err != nil || o.dry {
		return err
	}
	var running capture
	if o.capture != nil {
		if running, err = o.capture(ctx, s); err != nil {
			return err
		}
	}
	shp, err := shop.New(shop.Config{Seed: o.history.Seed, Run: rep.Run, Mix: o.mix, GhostRatio: o.history.GhostRatio, To: shop.Shards})
	if err != nil {
		return err
	}
	if err := workload.Load(ctx, s.db.Pool, shp); err != nil {
		return err
	}
	if o.fixed {
		o.workload.Logical = o.history.Start
		if floor := shp.Floor(); floor.After(o.workload.Logical) {
			o.workload.Logical = floor
		}
	}
	o.workload.OnProgress = s.p.liveLine()
	s.p.log.Info("the shop is open", "avg_qps", o.workload.Rate, "mix", o.mix, "workers", o.workload.Workers,
		"rand_seed", o.history.Seed, "customers", shp.Stats().Customers, "in_stock", shp.Stats().Stock)
	stop, endStop := context.WithCancel(s.p.signals.stop)
	defer endStop()
	if running != nil {
		go func() {
			select {
			case <-running.failed():
				endStop() // nothing would be captured any more
			case <-stop.Done():
			}
		}()
	}
	sum, runErr := workload.Run(s.p.signals.ctx, stop, s.db, own, shp, o.workload, s.p.log)
	rep.Workload = &sum
	if running != nil {
		runErr = errors.Join(runErr, running.finish(s.p.signals.ctx, rep))
	}
	if err := s.p.printReport(rep, o.json); err != nil {
		return err
	}
	if sum.Forced > 0 {
		s.p.log.Warn("the mix left nothing to do at times, so somebody signed up instead", "times", sum.Forced, "mix", o.mix)
	}
	if runErr != nil {
		return runErr
	}
	return s.p.signals.stopped()
}

// setUp brings tables, topics and connector to where the workload can begin, under the setup lock.
func (s *session) setUp(ctx context.Context, o runOptions, admin *topics.Admin, client *debezium.Client, rep *report) error {
	state, err := s.target.Inspect(ctx, s.db.Pool)
	if err != nil {
		return err
	}
	// Everything that speaks against it is found out before the first change.
	exists := len(state.Ours[migrations.KindTable]) > 0
	if err := s.mayRun(ctx, o, client, state, exists); err != nil {
		return err
	}
	replace := exists && o.ifExists == ifExistsReplace
	if o.dry {
		return s.plan(o, admin, client, replace)
	}
	if replace {
		if err := s.backToZero(ctx, o, admin, client, state); err != nil {
			return err
		}
	}
	if admin != nil {
		created, err := s.p.createTopics(admin, o.names, o.settings)
		if err != nil {
			return err
		}
		rep.Topics = &created
	}
	applied, err := s.target.Up(ctx, s.db, s.p.log)
	if err != nil {
		return err
	}
	s.p.log.Info("schema is up to date", "schema", s.db.Schema, "applied", len(applied))
	if rep.Seeded, err = s.seedIfEmpty(ctx, o.history); err != nil {
		return err
	}
	if rep.Run, err = s.target.NextRun(ctx, s.db.Pool); err != nil {
		return err
	}
	if client != nil {
		return s.applyConnector(ctx, client, o.connector)
	}
	return nil
}

// mayRun refuses what must not be touched.
func (s *session) mayRun(ctx context.Context, o runOptions, client *debezium.Client, state migrations.State, exists bool) error {
	if err := s.target.MayCreate(state); err != nil {
		return err
	}
	if exists && o.ifExists == ifExistsFail {
		return fmt.Errorf("schema %q holds cdcseed's tables already (%s); go on with them by --if-exists append, or put everything back to zero by --if-exists replace: %w",
			s.db.Schema, strings.Join(state.Ours[migrations.KindTable], ", "), postgres.ErrRefused)
	}
	if exists && o.ifExists == ifExistsReplace {
		if err := s.target.MayDrop(state); err != nil {
			return err
		}
		if err := o.db.confirmed(); err != nil && !o.dry {
			return err
		}
		return s.mayReset(ctx, o, client, state)
	}
	if client != nil {
		return s.mayCapture(ctx, client, o.connector, state)
	}
	return nil
}

// mayReset refuses a replace that would take away a slot or connector of others, or one that is being read while there is
// no Connect to stop its reader.
func (s *session) mayReset(ctx context.Context, o runOptions, client *debezium.Client, state migrations.State) error {
	if client != nil {
		_, _, err := s.claim(ctx, client, o.connector, state)
		return err
	}
	for _, name := range state.Ours[migrations.KindSlot] {
		slot, err := s.db.Slot(ctx, name)
		if err != nil {
			return err
		}
		if slot.Active {
			return fmt.Errorf("replication slot %q of this shop is being read (pid %d); give --connect-url, so that its connector is stopped: %w",
				name, slot.PID, postgres.ErrRefused)
		}
	}
	return nil
}

// backToZero takes away everything of an earlier start: offsets and slot, records, tables.
func (s *session) backToZero(ctx context.Context, o runOptions, admin *topics.Admin, client *debezium.Client, state migrations.State) error {
	connectors := state.Ours[migrations.KindConnector]
	if client != nil && !slices.Contains(connectors, o.connector.Name) {
		connectors = append(slices.Clone(connectors), o.connector.Name)
	}
	if client != nil {
		for _, name := range connectors {
			if err := client.Stop(ctx, name); err != nil {
				return err
			}
			if err := client.DeleteOffsets(ctx, name); err != nil {
				return err
			}
		}
	}
	slots := state.Ours[migrations.KindSlot]
	if client != nil && !slices.Contains(slots, o.connector.Slot) {
		slots = append(slices.Clone(slots), o.connector.Slot)
	}
	for _, slot := range slots {
		if err := s.db.DropSlot(ctx, slot, o.db.maxWait); err != nil {
			return err
		}
	}
	if admin != nil {
		if err := s.p.emptyTopics(ctx, admin, o.names); err != nil {
			return err
		}
	} else {
		s.p.log.Warn("Kafka is left alone: records of the earlier start stay in the topics")
	}
	if err := s.target.Down(ctx, s.db); err != nil {
		return err
	}
	s.p.log.Info("everything is back to zero", "schema", s.db.Schema, "connectors", len(connectors), "slots", len(slots))
	return nil
}

// plan says what setUp would do.
func (s *session) plan(o runOptions, admin *topics.Admin, client *debezium.Client, replace bool) error {
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(s.p.out, "would "+format+"\n", args...) }
	if replace {
		if client != nil {
			say("stop connector %s, delete its offsets and drop slot %s", o.connector.Name, o.connector.Slot)
		}
		if admin != nil {
			if err := s.p.wouldEmpty(admin, o.names); err != nil {
				return err
			}
		}
		say("drop cdcseed's tables, publication and schema %s", s.db.Schema)
	}
	if admin != nil {
		say("create the topics that are missing: %d partitions, replication %d, %v", o.settings.Partitions, o.settings.Replication, o.settings.Config)
	}
	say("apply the missing migrations in schema %s of %s", s.db.Schema, o.db.Address())
	say("seed %d users and %d products, if the tables are empty", o.history.Users, o.history.Products)
	if client != nil {
		say("register connector %s with %s", o.connector.Name, client.Address())
	}
	say("commit %v row changes per second (0: as fast as possible), %s", o.workload.Rate, o.mix)
	return nil
}
