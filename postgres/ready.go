package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cdcseed/cdcseed/await"
)

// ErrUnfit marks a server that answers but cannot serve as a source of change data capture as it is set up.
var ErrUnfit = errors.New("not fit for change data capture")

// Server tells what WaitReady found.
type Server struct {
	Version  int // as server_version_num: 150018 is 15.18
	WALLevel string
	Standby  bool
}

// MinVersion is the oldest server that serves, as server_version_num: 14.
const MinVersion = 140000

// WaitReady waits up to maxWait for the server to take connections and reads what it is. It does not judge: see
// Server.Fit.
func (db *DB) WaitReady(ctx context.Context, maxWait time.Duration, log *slog.Logger) (Server, error) {
	return await.For(ctx, await.Policy{What: db.Name(), MaxWait: maxWait, Heals: Lost, Log: log}, func() (Server, error) {
		var s Server
		err := db.Pool.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('wal_level'),
			pg_is_in_recovery()`).Scan(&s.Version, &s.WALLevel, &s.Standby)
		if err != nil {
			return s, fmt.Errorf("ask the server for its version: %w", err)
		}
		return s, nil
	})
}

// Writable refuses a server that is too old or a standby.
func (s Server) Writable() error {
	switch {
	case s.Version < MinVersion:
		return fmt.Errorf("server version %d.%d is older than 14: %w", s.Version/10000, s.Version%10000, ErrUnfit)
	case s.Standby:
		return fmt.Errorf("the server is a standby; connect to its primary: %w", ErrRefused)
	}
	return nil
}

// Logical refuses a server that cannot feed a logical replication slot.
func (s Server) Logical() error {
	if s.WALLevel != "logical" {
		return fmt.Errorf("wal_level is %q, Debezium needs \"logical\": run `ALTER SYSTEM SET wal_level = logical` and restart the server: %w",
			s.WALLevel, ErrUnfit)
	}
	return nil
}

// ErrRefused marks what is not done for safety: something that is not ours, or that another process works on.
var ErrRefused = errors.New("refused for safety")
