package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/cdcseed/cdcseed/debezium"
	"github.com/cdcseed/cdcseed/migrations"
	"github.com/cdcseed/cdcseed/postgres"
)

// passwordReference is what `connector show` prints instead of a password; the workers of our stacks resolve it.
const passwordReference = "${env:CDCSEED_DB_PASSWORD}" //nolint:gosec // a reference, no password

// connectorOptions are what the connector commands share.
type connectorOptions struct {
	db        databaseOptions
	connector debezium.Connector
	url       string
}

func readConnectorOptions(c *cli.Context) (o connectorOptions, err error) {
	if o.db, err = readDatabase(c); err != nil {
		return o, err
	}
	prefix, err := readPrefix(c)
	if err != nil {
		return o, err
	}
	settings, err := readTopicSettings(c)
	if err != nil {
		return o, err
	}
	if o.connector, err = readConnector(c, o.db, prefix, settings.Config); err != nil {
		return o, err
	}
	if o.url, err = readConnectURL(c); err == nil && o.url == "" {
		err = bad("connect-url", `""`)
	}
	return o, err
}

func (p *program) connectorCommand() *cli.Command {
	common := func(extra ...[]cli.Flag) []cli.Flag {
		return concat(append([][]cli.Flag{
			configFlag(), databaseFlags(), prefixFlag(), topicFlags(), connectorFlags(), connectURLFlag("http://localhost:8083"),
		}, extra...)...)
	}
	// with reads the options and opens Connect.
	with := func(fn func(ctx context.Context, c *cli.Context, o connectorOptions, client *debezium.Client) error) cli.ActionFunc {
		return func(c *cli.Context) error {
			o, err := readConnectorOptions(c)
			if err != nil {
				return err
			}
			client, err := debezium.NewClient(o.url, o.db.maxWait, p.log)
			if err != nil {
				return usagef("--connect-url: %v", err)
			}
			defer client.Close()
			ctx := p.signals.untilStopped()
			if _, err := client.WaitReady(ctx); err != nil {
				return err
			}
			return fn(ctx, c, o, client)
		}
	}
	return &cli.Command{
		Name:  "connector",
		Usage: "show, register and look after the Debezium connector",
		Subcommands: []*cli.Command{
			{
				Name: "show", Usage: "print the configuration, ready for PUT /connectors/NAME/config", Before: readConfig, Flags: common(),
				Action: func(c *cli.Context) error {
					o, err := readConnectorOptions(c)
					if err != nil {
						return err
					}
					if c.String("connector-password") == "" {
						o.connector.Password = passwordReference
					}
					js, err := o.connector.JSON()
					if err != nil {
						return err
					}
					_, err = p.out.Write(js)
					return err //nolint:wrapcheck // stdout
				},
			},
			{
				Name: "apply", Usage: "create the connector or change its configuration, and set it going", Before: readConfig, Flags: common(),
				Action: with(func(ctx context.Context, _ *cli.Context, o connectorOptions, client *debezium.Client) error {
					return p.withDatabase(ctx, o.db, func(s *session) error {
						return s.setup(ctx, func(ctx context.Context) error { return s.applyChecked(ctx, client, o.connector) })
					})
				}),
			},
			{
				Name: "status", Usage: "tell the state, and why it failed", Before: readConfig, Flags: common(jsonFlag()),
				Action: with(func(ctx context.Context, c *cli.Context, o connectorOptions, client *debezium.Client) error {
					status, err := client.Status(ctx, o.connector.Name)
					if err != nil {
						return err
					}
					if c.Bool("json") {
						if err := printJSON(p.out, status); err != nil {
							return err
						}
					} else {
						w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
						_, _ = fmt.Fprintf(w, "connector %s\t%s\t%s\n", status.Name, status.Connector.State, status.Connector.Worker)
						for _, t := range status.Tasks {
							_, _ = fmt.Fprintf(w, "task %d\t%s\t%s\n", t.ID, t.State, t.Worker)
						}
						if err := w.Flush(); err != nil {
							return err //nolint:wrapcheck // stdout
						}
					}
					return status.Err()
				}),
			},
			{
				Name: "restart", Usage: "restart the connector and its task", Before: readConfig, Flags: common(),
				Action: with(func(ctx context.Context, _ *cli.Context, o connectorOptions, client *debezium.Client) error {
					if err := client.Restart(ctx, o.connector.Name); err != nil {
						return err
					}
					return client.WaitRunning(ctx, o.connector.Name)
				}),
			},
			{
				Name: "delete", Usage: "remove the connector from Connect; slot and offsets stay, and the slot keeps the WAL", Before: readConfig, Flags: common(),
				Action: with(func(ctx context.Context, _ *cli.Context, o connectorOptions, client *debezium.Client) error {
					return client.Delete(ctx, o.connector.Name)
				}),
			},
			{
				Name: "reset", Usage: "stop the connector, delete its offsets and drop its slot: apply then takes a new snapshot", Before: readConfig,
				Flags: common(dryRunFlag()),
				Action: with(func(ctx context.Context, c *cli.Context, o connectorOptions, client *debezium.Client) error {
					if err := o.db.confirmed(); err != nil && !c.Bool("dry-run") {
						return err
					}
					return p.withDatabase(ctx, o.db, func(s *session) error {
						return s.setup(ctx, func(ctx context.Context) error {
							return s.resetChecked(ctx, client, o.connector, c.Bool("dry-run"))
						})
					})
				}),
			},
		},
	}
}

// applyChecked applies the connector after making sure that it, its slot and its publication are this shop's.
func (s *session) applyChecked(ctx context.Context, client *debezium.Client, conn debezium.Connector) error {
	state, err := s.target.Inspect(ctx, s.db.Pool)
	if err != nil {
		return err
	}
	if !state.Lists(migrations.KindPublication, conn.Publication) {
		return fmt.Errorf("schema %q has no publication %q of cdcseed's; run `cdcseed migrate up`: %w", s.db.Schema, conn.Publication, postgres.ErrUnfit)
	}
	if err := s.mayCapture(ctx, client, conn, state); err != nil {
		return err
	}
	return s.applyConnector(ctx, client, conn)
}

// mayCapture refuses a connector or slot that is somebody else's, and a connector whose slot was dropped behind its back.
func (s *session) mayCapture(ctx context.Context, client *debezium.Client, conn debezium.Connector, state migrations.State) error {
	exists, slot, err := s.claim(ctx, client, conn, state)
	if err != nil || !exists || slot.Exists {
		return err
	}
	status, err := client.Status(ctx, conn.Name)
	if err != nil {
		return err
	}
	if status.Connector.State != debezium.StateStopped {
		return fmt.Errorf("connector %q is %s but its slot %q is gone, and with it the changes since; run `cdcseed connector reset`, "+
			"or start again with --if-exists replace: %w", conn.Name, status.Connector.State, conn.Slot, postgres.ErrUnfit)
	}
	return nil
}

func (s *session) resetChecked(ctx context.Context, client *debezium.Client, conn debezium.Connector, dry bool) error {
	state, err := s.target.Inspect(ctx, s.db.Pool)
	if err != nil {
		return err
	}
	if _, _, err := s.claim(ctx, client, conn, state); err != nil {
		return err
	}
	if dry {
		_, _ = fmt.Fprintf(s.p.out, "would stop connector %s, delete its offsets and drop slot %s\n", conn.Name, conn.Slot)
		return nil
	}
	if err := s.resetConnector(ctx, client, conn.Name, conn.Slot); err != nil {
		return err
	}
	if state.Marker {
		return s.target.Unmark(ctx, s.db.Pool, migrations.KindSlot, conn.Slot)
	}
	return nil
}
