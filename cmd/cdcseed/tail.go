package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/cdcseed/cdcseed/debezium"
	"github.com/cdcseed/cdcseed/models"
	"github.com/cdcseed/cdcseed/topics"
)

func (p *program) tailCommand() *cli.Command {
	return &cli.Command{
		Name: "tail", Usage: "print change events as they come, of all tables or of those named", ArgsUsage: "[TABLE ...]", Before: readConfig,
		Flags: concat(configFlag(), kafkaFlags(), prefixFlag(), flags(
			&cli.StringFlag{Name: "schema", Value: "demo", Usage: "`SCHEMA` that holds the tables"},
			&cli.DurationFlag{Name: "max-wait", Value: defaultMaxWait, Usage: "how long Kafka is waited for"},
			&cli.BoolFlag{Name: "from-beginning", Usage: "begin with the oldest event"},
			&cli.BoolFlag{Name: "no-follow", Usage: "end at what there is now"},
			&cli.BoolFlag{Name: "json", Usage: "print the values as they are, one to a line; a tombstone is null"},
		)),
		Action: func(c *cli.Context) error {
			o, err := readTopics(c)
			if err != nil {
				return err
			}
			names := o.names.Tables
			if c.Args().Present() {
				known := models.Names(models.Tables())
				names = nil
				for _, t := range c.Args().Slice() {
					if !slices.Contains(known, t) {
						return usagef("there is no table %q; the tables are %s", t, strings.Join(known, ", "))
					}
					names = append(names, o.names.Tables[slices.Index(known, t)])
				}
			}
			from := topics.Newest
			if c.Bool("from-beginning") || c.Bool("no-follow") {
				from = topics.Oldest
			}
			pr := eventPrinter{w: p.out}
			if f, ok := p.out.(*os.File); ok {
				pr.color = term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == ""
			}
			ctx := p.signals.untilStopped()
			err = p.withKafka(ctx, o.cluster, c.Duration("max-wait"), func(a *topics.Admin) error {
				return a.Consume(ctx, names, from, !c.Bool("no-follow"), func(r topics.Record) error {
					if c.Bool("json") {
						return pr.raw(r)
					}
					return pr.readable(r)
				})
			})
			if err == nil {
				err = p.signals.stopped()
			}
			return err
		},
	}
}

// eventPrinter prints change events.
type eventPrinter struct {
	w     io.Writer
	color bool
}

func (p eventPrinter) raw(r topics.Record) error {
	v := r.Value
	if v == nil {
		v = []byte("null")
	}
	_, err := p.w.Write(append(bytes.ReplaceAll(v, []byte("\n"), []byte(" ")), '\n'))
	return err //nolint:wrapcheck // stdout
}

// Colours of the operations, as ANSI codes.
var opColors = map[debezium.Op]string{
	debezium.OpRead: "36", debezium.OpCreate: "32", debezium.OpUpdate: "33", debezium.OpDelete: "31", debezium.OpTruncate: "35",
}

// readable prints one line: time of the commit, table, op, key, and what changed.
func (p eventPrinter) readable(r topics.Record) error {
	ev, err := debezium.Decode(r.Key, r.Value)
	table := r.Topic[strings.LastIndexByte(r.Topic, '.')+1:]
	if err != nil {
		_, err = fmt.Fprintf(p.w, "%s partition %d offset %d: no change event: %v\n", r.Topic, r.Partition, r.Offset, err)
		return err //nolint:wrapcheck // stdout
	}
	if ev.Tombstone {
		_, err = fmt.Fprintf(p.w, "%s  %-20s %s %s\n", r.Time.UTC().Format("15:04:05.000"), table, p.paint("90", "†"), pairs(ev.Key, nil))
		return err //nolint:wrapcheck // stdout
	}
	env := ev.Envelope
	op := p.paint(opColors[env.Op], string(env.Op))
	_, err = fmt.Fprintf(p.w, "%s  %-20s %s %s  %s\n", r.Time.UTC().Format("15:04:05.000"), table, op, pairs(ev.Key, nil), p.changes(ev))
	return err //nolint:wrapcheck // stdout
}

// changes renders what an event tells: a new row's columns, an update's changed ones, nothing of a delete beyond its key.
func (p eventPrinter) changes(ev debezium.Event) string {
	env := ev.Envelope
	switch env.Op {
	case debezium.OpRead, debezium.OpCreate:
		return pairs(env.After, ev.Key)
	case debezium.OpUpdate:
		var out []string
		for _, c := range slices.Sorted(maps.Keys(env.After)) {
			if env.Before == nil {
				out = append(out, fmt.Sprintf("%s=%v", c, show(env.After[c])))
			} else if !reflect.DeepEqual(env.Before[c], env.After[c]) {
				out = append(out, fmt.Sprintf("%s %v → %s", c, show(env.Before[c]), p.paint("1", show(env.After[c]))))
			}
		}
		return strings.Join(out, ", ")
	case debezium.OpDelete, debezium.OpTruncate, debezium.OpMessage:
	}
	return ""
}

func (p eventPrinter) paint(code, s string) string {
	if !p.color || code == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// pairs renders a row's columns, sorted, without those of another row.
func pairs(row, without debezium.Row) string {
	var out []string
	for _, c := range slices.Sorted(maps.Keys(row)) {
		if _, skip := without[c]; !skip {
			out = append(out, c+"="+show(row[c]))
		}
	}
	return strings.Join(out, " ")
}

func show(v any) string {
	if v == nil {
		return "null"
	}
	return fmt.Sprintf("%v", v)
}
