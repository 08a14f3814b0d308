package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/cdcseed/cdcseed/shop"
)

func (p *program) migrateCommand() *cli.Command {
	common := func(extra ...[]cli.Flag) []cli.Flag {
		return concat(append([][]cli.Flag{configFlag(), databaseFlags()}, extra...)...)
	}
	return &cli.Command{
		Name:  "migrate",
		Usage: "make, show and take away the tables",
		Subcommands: []*cli.Command{
			{
				Name: "up", Usage: "apply the migrations that are missing", Flags: common(), Before: readConfig,
				Action: func(c *cli.Context) error {
					o, err := readDatabase(c)
					if err != nil {
						return err
					}
					ctx := p.signals.untilStopped()
					return p.withDatabase(ctx, o, func(s *session) error {
						return s.setup(ctx, func(ctx context.Context) error {
							applied, err := s.target.Up(ctx, s.db, p.log)
							if err != nil {
								return err
							}
							p.log.Info("schema is up to date", "schema", o.Schema, "applied", len(applied))
							return nil
						})
					})
				},
			},
			{
				Name: "down", Usage: "take away everything that cdcseed made in the schema", Flags: common(dryRunFlag()), Before: readConfig,
				Action: func(c *cli.Context) error {
					o, err := readDatabase(c)
					if err != nil {
						return err
					}
					if err := o.confirmed(); err != nil && !c.Bool("dry-run") {
						return err
					}
					ctx := p.signals.untilStopped()
					return p.withDatabase(ctx, o, func(s *session) error {
						return s.setup(ctx, func(ctx context.Context) error { return s.takeDown(ctx, c.Bool("dry-run")) })
					})
				},
			},
			{
				Name: "status", Usage: "list the migrations and whether they are applied", Flags: common(jsonFlag()), Before: readConfig,
				Action: func(c *cli.Context) error {
					o, err := readDatabase(c)
					if err != nil {
						return err
					}
					ctx := p.signals.untilStopped()
					return p.withDatabase(ctx, o, func(s *session) error {
						steps, err := s.target.Status(ctx, s.db)
						if err != nil {
							return err
						}
						if c.Bool("json") {
							return printJSON(p.out, steps)
						}
						w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
						for _, st := range steps {
							word := "pending"
							if st.Applied {
								word = "applied"
							}
							_, _ = fmt.Fprintf(w, "%s\t%s\n", st.ID, word)
						}
						return w.Flush()
					})
				},
			},
		},
	}
}

// takeDown drops what the marker lists. Nobody may work on the shop meanwhile.
func (s *session) takeDown(ctx context.Context, dry bool) error {
	state, err := s.target.Inspect(ctx, s.db.Pool)
	if err != nil {
		return err
	}
	if err := s.target.MayDrop(state); err != nil {
		return err
	}
	if !state.Marker {
		s.p.log.Info("nothing of cdcseed's in this schema", "schema", s.db.Schema)
		return nil
	}
	if dry {
		for _, kind := range slices.Sorted(maps.Keys(state.Ours)) {
			for _, name := range state.Ours[kind] {
				_, _ = fmt.Fprintf(s.p.out, "would take away %s %s\n", kind, name)
			}
		}
		return nil
	}
	own, err := s.db.Own(ctx, 0, shop.Shards)
	if err != nil {
		return err
	}
	defer func() { _ = own.Close(context.WithoutCancel(ctx)) }()
	if err := s.target.Down(ctx, s.db); err != nil {
		return err
	}
	s.p.log.Info("schema is taken down", "schema", s.db.Schema)
	return nil
}
