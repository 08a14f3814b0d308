package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/cdcseed/cdcseed/topics"
)

// topicOptions are what the topics commands share.
type topicOptions struct {
	cluster topics.Cluster
	names   topics.Names
}

func readTopics(c *cli.Context) (o topicOptions, err error) {
	schema := c.String("schema")
	if !schemaName.MatchString(schema) {
		return o, bad("schema", fmt.Sprintf("%q", schema))
	}
	prefix, err := readPrefix(c)
	if err != nil {
		return o, err
	}
	o.names = topicNames(prefix, schema)
	o.cluster, err = readCluster(c)
	return o, err
}

func (p *program) topicsCommand() *cli.Command {
	common := func(extra ...[]cli.Flag) []cli.Flag {
		own := flags(
			&cli.StringFlag{Name: "schema", Value: "demo", Usage: "`SCHEMA` that holds the tables"},
			&cli.DurationFlag{Name: "max-wait", Value: defaultMaxWait, Usage: "how long Kafka is waited for"},
		)
		return concat(append([][]cli.Flag{configFlag(), kafkaFlags(), prefixFlag(), own}, extra...)...)
	}
	return &cli.Command{
		Name:  "topics",
		Usage: "create, list and empty the topics",
		Subcommands: []*cli.Command{
			{
				Name: "create", Usage: "create the topics that are missing; existing ones are kept as they are", Before: readConfig,
				Flags: common(topicFlags(), jsonFlag()),
				Action: func(c *cli.Context) error {
					o, err := readTopics(c)
					if err != nil {
						return err
					}
					settings, err := readTopicSettings(c)
					if err != nil {
						return err
					}
					return p.withKafka(p.signals.untilStopped(), o.cluster, c.Duration("max-wait"), func(a *topics.Admin) error {
						created, err := p.createTopics(a, o.names, settings)
						if err != nil || !c.Bool("json") {
							return err
						}
						return printJSON(p.out, created)
					})
				},
			},
			{
				Name: "list", Usage: "describe the topics", Before: readConfig, Flags: common(jsonFlag()),
				Action: func(c *cli.Context) error {
					o, err := readTopics(c)
					if err != nil {
						return err
					}
					return p.withKafka(p.signals.untilStopped(), o.cluster, c.Duration("max-wait"), func(a *topics.Admin) error {
						list, err := a.List(o.names.All())
						if err != nil {
							return err
						}
						if c.Bool("json") {
							return printJSON(p.out, list)
						}
						w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
						_, _ = fmt.Fprintln(w, "TOPIC\tPARTITIONS\tREPLICATION\tCLEANUP\tRECORDS")
						for _, t := range list {
							if !t.Exists {
								_, _ = fmt.Fprintf(w, "%s\tmissing\n", t.Name)
								continue
							}
							_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%d\n", t.Name, t.Partitions, t.Replication, t.Cleanup, t.Records)
						}
						return w.Flush()
					})
				},
			},
			{
				Name: "reset", Usage: "empty the topics; partitions, configuration and consumer groups stay", Before: readConfig,
				Flags: common(dryRunFlag()),
				Action: func(c *cli.Context) error {
					o, err := readTopics(c)
					if err != nil {
						return err
					}
					ctx := p.signals.untilStopped()
					return p.withKafka(ctx, o.cluster, c.Duration("max-wait"), func(a *topics.Admin) error {
						if c.Bool("dry-run") {
							return p.wouldEmpty(a, o.names)
						}
						return p.emptyTopics(ctx, a, o.names)
					})
				},
			},
		},
	}
}

func (p *program) emptyTopics(ctx context.Context, a *topics.Admin, names topics.Names) error {
	done, err := a.Reset(ctx, names.All())
	if err != nil {
		return err
	}
	p.log.Info("topics are emptied", "topics", len(done))
	return nil
}

func (p *program) wouldEmpty(a *topics.Admin, names topics.Names) error {
	list, err := a.List(names.All())
	if err != nil {
		return err
	}
	for _, t := range list {
		if t.Exists {
			_, _ = fmt.Fprintf(p.out, "would empty topic %s (%d records)\n", t.Name, t.Records)
		}
	}
	return nil
}
