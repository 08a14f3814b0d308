package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cdcseed/cdcseed/native"
)

const defaultMaxWait = 60 * time.Second

func (p *program) nativeCommand() *cli.Command {
	common := func(extra ...cli.Flag) []cli.Flag {
		return concat(configFlag(), flags(append([]cli.Flag{
			&cli.StringFlag{Name: "dir", Value: defaultStateDir(), Usage: "`FOLDER` of the stack's data, logs and state"},
		}, extra...)...))
	}
	return &cli.Command{
		Name:  "native",
		Usage: "run Postgres, Kafka and Kafka Connect with Debezium as local processes, without Docker",
		Subcommands: []*cli.Command{
			{
				Name: "up", Usage: "start the stack and return when it is ready", Before: readConfig,
				Flags: common(
					&cli.IntFlag{Name: "postgres-port", Value: 5432, Usage: "`PORT` of Postgres; 0 for any that is free, as with the others"},
					&cli.IntFlag{Name: "kafka-port", Value: 9092, Usage: "`PORT` of Kafka; its controller takes the next one"},
					&cli.IntFlag{Name: "connect-port", Value: 8083, Usage: "`PORT` of Kafka Connect"},
					&cli.StringFlag{Name: "postgres-bin", DefaultText: "found on this machine, else brought by Maven", Usage: "`FOLDER` with initdb and postgres, 14 or newer"},
					&cli.StringFlag{Name: "cache-dir", DefaultText: "the user's cache folder", Usage: "`FOLDER` for what Maven brings"},
					&cli.BoolFlag{Name: "postgres-only", Usage: "leave out Kafka and Connect"},
					&cli.DurationFlag{Name: "max-wait", Value: 15 * time.Minute, Usage: "how long each server may take to get ready"},
					&cli.BoolFlag{Name: "json", Usage: "print where to connect as JSON"},
				),
				Action: func(c *cli.Context) error {
					cfg, err := readNative(c)
					if err != nil {
						return err
					}
					info, err := native.Up(p.signals.untilStopped(), cfg, p.log)
					if err != nil {
						return err
					}
					if c.Bool("json") {
						return printJSON(p.out, info)
					}
					p.printNative(info)
					return nil
				},
			},
			{
				Name: "down", Usage: "stop the stack and remove its folder", Before: readConfig,
				Flags: common(&cli.BoolFlag{Name: "keep", Usage: "keep the folder, so that the next up goes on with the same data"}),
				Action: func(c *cli.Context) error {
					return native.Down(p.signals.untilStopped(), c.String("dir"), c.Bool("keep"), p.log)
				},
			},
			{
				Name: "status", Usage: "tell which of the stack's servers run", Before: readConfig, Flags: common(),
				Action: func(c *cli.Context) error {
					info, alive, err := native.Status(c.String("dir"))
					if err != nil {
						return err
					}
					if len(alive) == 0 {
						_, _ = fmt.Fprintln(p.out, "the native stack is down")
						return nil
					}
					for _, name := range slices.Sorted(maps.Keys(alive)) {
						word := "dead"
						if alive[name] {
							word = "running"
						}
						_, _ = fmt.Fprintf(p.out, "%-9s %s\n", name, word)
					}
					p.printNative(info)
					return nil
				},
			},
		},
	}
}

func (p *program) printNative(info native.Info) {
	_, _ = fmt.Fprintf(p.out, "postgres  %s\n", info.DSN)
	if info.Bootstrap != "" {
		_, _ = fmt.Fprintf(p.out, "kafka     %s\nconnect   %s\n", info.Bootstrap, info.ConnectURL)
	}
	_, _ = fmt.Fprintf(p.out, "logs      %s\n", info.Logs)
}

func readNative(c *cli.Context) (native.Config, error) {
	cfg := native.Config{
		Dir: c.String("dir"), CacheDir: c.String("cache-dir"), PostgresBin: c.String("postgres-bin"),
		PostgresPort: c.Int("postgres-port"), KafkaPort: c.Int("kafka-port"), ConnectPort: c.Int("connect-port"),
		User: "db_user", Password: defaultPassword, Database: "fh_dev",
		PostgresOnly: c.Bool("postgres-only"), MaxWait: c.Duration("max-wait"),
	}
	for _, f := range []struct {
		name      string
		port, top int
	}{{"postgres-port", cfg.PostgresPort, 65535}, {"kafka-port", cfg.KafkaPort, 65534}, {"connect-port", cfg.ConnectPort, 65535}} {
		if f.port < 0 || f.port > f.top {
			return cfg, bad(f.name, f.port)
		}
	}
	if cfg.MaxWait <= 0 {
		return cfg, bad("max-wait", cfg.MaxWait)
	}
	if cfg.Dir == "" {
		return cfg, usagef("--dir is empty")
	}
	var err error
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return cfg, usagef("--dir: %v", err)
	}
	if cfg.CacheDir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return cfg, usagef("--cache-dir is needed: %v", err)
		}
		cfg.CacheDir = filepath.Join(base, "cdcseed")
	}
	return cfg, nil
}
