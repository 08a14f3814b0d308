package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/lmittmann/tint"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// version is set by the linker; without, the module's own.
var version = ""

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}

// program is what the commands share: where output goes, and the signals.
type program struct {
	out, err io.Writer
	terminal bool // whether err is one
	log      *slog.Logger
	signals  *signals
}

// run runs the command line and returns the exit code.
func run(args []string, out, errOut io.Writer) int {
	sig, release := catchSignals()
	defer release()
	p := &program{out: out, err: errOut, signals: sig}
	if f, ok := errOut.(*os.File); ok {
		p.terminal = term.IsTerminal(int(f.Fd()))
	}
	p.setLog("text", slog.LevelInfo)
	err := p.app().RunContext(sig.ctx, args)
	if err == nil {
		return exitOK
	}
	if cause := sig.stopped(); cause != nil && errors.Is(err, context.Canceled) {
		err = cause // of which only the library in between has not heard
	}
	code := exitCode(err)
	_, _ = fmt.Fprintf(errOut, "cdcseed: %s\n", redact(err.Error()))
	if advice := advise(err); advice != "" {
		_, _ = fmt.Fprintf(errOut, "try: %s\n", advice)
	}
	if code == exitBug {
		_, _ = fmt.Fprintln(errOut, "this looks like a bug of cdcseed; please report it with the lines above")
	}
	return code
}

// setLog makes the logger: for people, or as JSON.
func (p *program) setLog(format string, level slog.Level) {
	if format == "json" {
		p.log = slog.New(slog.NewJSONHandler(p.err, &slog.HandlerOptions{Level: level}))
		return
	}
	p.log = slog.New(tint.NewTextHandler(p.err, &tint.Options{Level: level, TimeFormat: "15:04:05", NoColor: !p.terminal}))
}

func (p *program) app() *cli.App {
	app := &cli.App{
		Name:      "cdcseed",
		Usage:     "a live eCommerce database for change data capture",
		Version:   buildVersion(),
		Writer:    p.out,
		ErrWriter: p.err,
		Flags: flags(
			&cli.StringFlag{Name: "log-level", Value: "info", Usage: "debug, info, warn or error"},
			&cli.StringFlag{Name: "log-format", Value: "text", Usage: "text or json"},
		),
		Before: func(c *cli.Context) error {
			var level slog.Level
			if err := level.UnmarshalText([]byte(c.String("log-level"))); err != nil {
				return usagef("--log-level %q: allowed are debug, info, warn and error", c.String("log-level"))
			}
			format := c.String("log-format")
			if format != "text" && format != "json" {
				return usagef("--log-format %q: allowed are text and json", format)
			}
			p.setLog(format, level)
			return nil
		},
		Commands: []*cli.Command{
			p.demoCommand(), p.runCommand(), p.tailCommand(), p.migrateCommand(), p.seedCommand(), p.topicsCommand(), p.connectorCommand(), p.nativeCommand(),
		},
		HideHelpCommand:           true,
		EnableBashCompletion:      true,
		DisableSliceFlagSeparator: true,
		ExitErrHandler:            func(*cli.Context, error) {}, // run decides
		OnUsageError:              onUsageError,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("there is no command %q; `cdcseed --help` lists them", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
	prepare(app.Commands)
	return app
}

// prepare gives every command the handling of usage errors, and those that only group others an answer to unknown names.
func prepare(commands []*cli.Command) {
	for _, cmd := range commands {
		cmd.OnUsageError = onUsageError
		cmd.HideHelpCommand = true
		prepare(cmd.Subcommands)
		if cmd.Action == nil {
			cmd.Action = func(c *cli.Context) error {
				if c.Args().Present() {
					return usagef("there is no command %q in `%s`; --help lists them", c.Args().First(), c.Command.HelpName)
				}
				return cli.ShowSubcommandHelp(c)
			}
			continue
		}
		action := cmd.Action
		cmd.Action = func(c *cli.Context) error {
			if c.Args().Present() && cmd.ArgsUsage == "" {
				return usagef("%q is more than `%s` takes; flags begin with --", c.Args().First(), c.Command.HelpName)
			}
			return action(c)
		}
	}
}

var flagInError = regexp.MustCompile(`flag:? -+([a-zA-Z_-]+)`)

// onUsageError names what is allowed beside the flag and the value, which the flag package's error holds.
func onUsageError(c *cli.Context, err error, _ bool) error {
	msg := err.Error()
	if m := flagInError.FindStringSubmatch(msg); m != nil {
		msg = strings.ReplaceAll(msg, " -"+m[1], " --"+m[1])
		if a := allowed[strings.ReplaceAll(m[1], "_", "-")]; a != "" {
			msg += "; allowed: " + a
		}
	}
	name := "cdcseed"
	if c.Command != nil && c.Command.HelpName != "" {
		name = c.Command.HelpName
	}
	return usagef("%s (see `%s --help`)", msg, name)
}

// signals turn SIGINT and SIGTERM into contexts: the first ends stop, the second ctx.
type signals struct {
	ctx  context.Context // hard: whatever is under way ends
	stop context.Context // soft: finish what is under way
}

func catchSignals() (*signals, func()) {
	ctx, hard := context.WithCancelCause(context.Background())
	stop, soft := context.WithCancelCause(ctx)
	s := &signals{ctx: ctx, stop: stop}
	ch := make(chan os.Signal, 2)
	done := make(chan struct{})
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		for n := 0; ; n++ {
			select {
			case sig := <-ch:
				cause := &signalError{sig}
				soft(cause)
				if n > 0 {
					hard(cause)
				}
			case <-done:
				return
			}
		}
	}()
	return s, func() { signal.Stop(ch); close(done); soft(nil); hard(nil) }
}

// untilStopped is a context that the first signal ends: for what has no end of its own to drain to.
func (s *signals) untilStopped() context.Context { return s.stop }

// stopped returns the signal's error if there was one.
func (s *signals) stopped() error {
	if s.stop.Err() == nil {
		return nil
	}
	return context.Cause(s.stop)
}

var secretInText = []*regexp.Regexp{
	regexp.MustCompile(`(://[^:/@\s]+:)[^@\s]+(@)`),
	regexp.MustCompile(`(?i)(password=)(?:'[^']*'|\S+)()`),
}

// redact takes passwords in addresses and key=value settings out of a message, whoever put them in.
func redact(s string) string {
	for _, re := range secretInText {
		s = re.ReplaceAllString(s, "${1}xxxxx${2}")
	}
	return s
}
