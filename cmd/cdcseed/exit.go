package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/IBM/sarama"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cdcseed/cdcseed/await"
	"github.com/cdcseed/cdcseed/debezium"
	"github.com/cdcseed/cdcseed/debezium/emulator"
	"github.com/cdcseed/cdcseed/native"
	"github.com/cdcseed/cdcseed/postgres"
)

// Exit codes. They are part of the interface: scripts go by them, and docs/manual.md lists them.
const (
	exitOK          = 0
	exitUsage       = 2 // a flag, an argument or the configuration file
	exitUnfit       = 3 // the environment answers, but cannot do what is asked
	exitRefused     = 4 // not done for safety
	exitUnavailable = 5 // a dependency stayed away longer than --max-wait
	exitDiffer      = 6 // the topics do not hold what the tables went through, or changes are lost
	exitBug         = 7 // anything else
	exitSignal      = 128
)

// usageError is a bad flag, argument or configuration file; nothing was touched.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// signalError ends the program because of a signal.
type signalError struct{ sig os.Signal }

func (e *signalError) Error() string { return "ended by " + e.sig.String() }

// exitCode maps an error to the code that the program ends with.
func exitCode(err error) int {
	var (
		usage   *usageError
		signal  *signalError
		pg      *pgconn.PgError
		conn    *pgconn.ConnectError
		kafka   sarama.KError
		rest    *debezium.StatusError
		network net.Error
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &signal):
		if s, ok := signal.sig.(syscall.Signal); ok {
			return exitSignal + int(s)
		}
		return exitSignal
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, emulator.ErrGap), errors.Is(err, errDiffer):
		return exitDiffer
	case errors.Is(err, postgres.ErrRefused):
		return exitRefused
	case errors.Is(err, await.ErrUnavailable):
		return exitUnavailable
	case errors.Is(err, postgres.ErrUnfit), errors.Is(err, native.ErrMissing), errors.Is(err, debezium.ErrFailed),
		errors.Is(err, debezium.ErrNotFound), errors.Is(err, os.ErrPermission), errors.Is(err, os.ErrNotExist),
		errors.As(err, &pg), errors.As(err, &conn), errors.As(err, &kafka), errors.As(err, &rest), errors.As(err, &network),
		errors.Is(err, sarama.ErrOutOfBrokers):
		return exitUnfit
	}
	return exitBug
}

// advise says what to try next, where an error's own text does not.
func advise(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "28P01", "28000":
			return "check --user and --password (or PGPASSWORD, ~/.pgpass)"
		case "3D000":
			return "create the database, or choose another with --db"
		case "42501":
			return "the role needs CREATE on the database, REPLICATION, and to own the tables"
		case "42P01", "3F000":
			return "run `cdcseed migrate up`"
		case "55P03":
			return "somebody holds a lock on one of the tables: see pg_stat_activity"
		}
		return ""
	}
	if errors.Is(err, await.ErrUnavailable) {
		return "is it up, and is the address right? `cdcseed native status` or `docker compose ps` tells; --max-wait waits longer"
	}
	return ""
}
