package native

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// config is a Postgres alone, in a folder that the unprivileged user under root can reach.
func config(t *testing.T) Config {
	t.Helper()
	top, err := os.MkdirTemp("", "cdcseed-native-test-") //nolint:usetesting // t.TempDir is closed to the user that Postgres runs as
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(top, 0o755); err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Dir: filepath.Join(top, "stack"), CacheDir: filepath.Join(cache, "cdcseed"), User: "db_user", Password: `p'w "\`, Database: "fh_dev",
		PostgresOnly: true, MaxWait: 15 * time.Minute,
	}
	t.Cleanup(func() {
		if err := Down(context.WithoutCancel(t.Context()), cfg.Dir, false, quiet); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(top); err != nil {
			t.Error(err)
		}
	})
	return cfg
}

func query(t *testing.T, cfg Config, info Info, sql string) string {
	t.Helper()
	conf, err := pgx.ParseConfig(info.DSN + "?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	conf.Password = cfg.Password
	conn, err := pgx.ConnectConfig(t.Context(), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	var out string
	if err := conn.QueryRow(t.Context(), sql).Scan(&out); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}

func TestUpAndDown(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	cfg := config(t)
	info, err := Up(ctx, cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if got := query(t, cfg, info, "SELECT current_setting('wal_level') || ' ' || current_setting('listen_addresses') || ' ' || current_database()"); got != "logical 127.0.0.1 fh_dev" {
		t.Error(got)
	}
	query(t, cfg, info, "SELECT pg_catalog.set_config('x.y', '1', false)")

	// A second up finds it running.
	again, err := Up(ctx, cfg, quiet)
	if err != nil || again != info {
		t.Errorf("%+v, %v", again, err)
	}
	st, err := readState(cfg.Dir)
	if err != nil || len(st.Services) != 1 || !st.Services[0].alive() {
		t.Fatalf("%+v, %v", st, err)
	}
	_, alive, err := Status(cfg.Dir)
	if err != nil || !alive["postgres"] {
		t.Errorf("%v, %v", alive, err)
	}

	// A killed server is noticed and started again with its data.
	if err := kill(st.Services[0].PID); err != nil {
		t.Fatal(err)
	}
	for st.Services[0].alive() {
		time.Sleep(time.Millisecond) // polls the process table; the time decides nothing
	}
	info, err = Up(ctx, cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	query(t, cfg, info, "SELECT 'up'")

	// Kept, the data is there at the next up; else nothing is left.
	if err := Down(ctx, cfg.Dir, true, quiet); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, "postgres", "PG_VERSION")); err != nil {
		t.Error(err)
	}
	st, err = readState(cfg.Dir)
	if err != nil || len(st.Services) != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if err := Down(ctx, cfg.Dir, false, quiet); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(cfg.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is left: %v", err)
	}
	if err := Down(ctx, cfg.Dir, false, quiet); err != nil {
		t.Errorf("down when it is down: %v", err)
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	cfg := config(t)
	cfg.PostgresPort = l.Addr().(*net.TCPAddr).Port
	if _, err := Up(t.Context(), cfg, quiet); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("port %d (--postgres-port) is taken", cfg.PostgresPort)) {
		t.Errorf("error %v", err)
	}
}

// A server that cannot start is told with its own last words.
func TestFailedStart(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	info, err := Up(t.Context(), cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	query(t, cfg, info, "SELECT 'up'")
	if err := Down(t.Context(), cfg.Dir, true, quiet); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(cfg.Dir, "postgres", "postgresql.conf")
	if err := os.WriteFile(conf, []byte("no_such_setting = on\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Up(t.Context(), cfg, quiet); err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("error %v", err)
	}
	if st, err := readState(cfg.Dir); err != nil || len(st.Services) != 0 {
		t.Errorf("left behind: %+v, %v", st, err)
	}
}

func TestMissingBinaries(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.PostgresBin = t.TempDir()
	if _, err := Up(t.Context(), cfg, quiet); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "--postgres-bin") {
		t.Errorf("error %v", err)
	}
}

func TestOneCommandAtATime(t *testing.T) {
	t.Parallel()
	s := &stack{Config: config(t)}
	unlock, err := s.lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Up(t.Context(), s.Config, quiet); err == nil || !strings.Contains(err.Error(), "another command") {
		t.Errorf("error %v", err)
	}
	unlock()
}

func TestProcessesAreToldApart(t *testing.T) {
	t.Parallel()
	me := os.Getpid()
	if first, again := startTime(me), startTime(me); first == "" || first != again {
		t.Errorf("own start times %q and %q", first, again)
	}
	if (service{PID: me, Started: "another time"}).alive() || (service{}).alive() || !(service{PID: me, Started: startTime(me)}).alive() {
		t.Error("a process is taken for another")
	}
}

func TestProperties(t *testing.T) {
	t.Parallel()
	s := &stack{Config: Config{Dir: t.TempDir()}}
	path, err := s.writeProperties("x.properties", map[string]string{"b": `c:\d`, "a": "1"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || string(b) != "a=1\nb=c:\\\\d\n" {
		t.Errorf("%q, %v", b, err)
	}
	if got := tail(path, 1); got != `b=c:\\d` {
		t.Error(got)
	}
}
