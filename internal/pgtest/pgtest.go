// Package pgtest gives each test a schema of its own in a real Postgres: the one that CDCSEED_TEST_DSN names, or one that
// it starts for the package's tests.
package pgtest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/cdcseed/cdcseed/native"
	"github.com/cdcseed/cdcseed/postgres"
)

// DSNVariable names a Postgres that several packages' tests share, with wal_level=logical.
const DSNVariable = "CDCSEED_TEST_DSN"

// patience is how long a server may take, on a machine that is ten times slower than it should be.
const patience = 15 * time.Minute

var shared struct {
	once sync.Once
	dsn  string
	err  error
	stop func()
}

// Main runs a package's tests, stops what they started, and fails if they leave goroutines behind.
func Main(m *testing.M) {
	code := m.Run()
	if shared.stop != nil {
		shared.stop()
	}
	if code == 0 {
		// sarama's metrics keep one ticker for the whole process, without a way to end it.
		ticker := goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick")
		if err := goleak.Find(ticker); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// DSN returns the address of the shared server, with its password.
func DSN(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() {
		if shared.dsn = os.Getenv(DSNVariable); shared.dsn != "" {
			return
		}
		s, err := start(context.Background())
		shared.dsn, shared.err = s.DSN, err
		shared.stop = func() { _ = s.close() }
	})
	if shared.err != nil {
		t.Fatalf("pgtest: no Postgres to test with (set %s, or install its server): %v", DSNVariable, shared.err)
	}
	return shared.dsn
}

// Server is a Postgres of a test's own, which it may stop and start.
type Server struct {
	DSN string
	cfg native.Config
	top string
}

// NewServer starts a server that is stopped with the test.
func NewServer(t testing.TB) *Server {
	t.Helper()
	s, err := start(t.Context())
	if err != nil {
		t.Fatalf("pgtest: start a server: %v", err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Errorf("pgtest: stop the server: %v", err)
		}
	})
	return s
}

func start(ctx context.Context) (*Server, error) {
	top, err := os.MkdirTemp("", "cdcseed-pgtest-")
	if err != nil {
		return &Server{}, fmt.Errorf("make a folder: %w", err)
	}
	if err := os.Chmod(top, 0o755); err != nil { //nolint:gosec // the server runs as another user under root
		return &Server{}, fmt.Errorf("open the folder: %w", err)
	}
	port, err := native.FreePort(ctx)
	if err != nil {
		return &Server{}, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = top
	}
	s := &Server{top: top, cfg: native.Config{
		Dir: filepath.Join(top, "stack"), CacheDir: filepath.Join(cache, "cdcseed"), PostgresPort: port,
		User: "db_user", Password: "test", Database: "fh_dev", PostgresOnly: true, MaxWait: patience,
	}}
	s.DSN = fmt.Sprintf("postgres://db_user:test@127.0.0.1:%d/fh_dev?sslmode=disable", port)
	return s, s.Start(ctx)
}

// Start starts the server, again if it was stopped.
func (s *Server) Start(ctx context.Context) error {
	_, err := native.Up(ctx, s.cfg, slog.New(slog.DiscardHandler))
	return err //nolint:wrapcheck // a test's
}

// Stop stops the server in fast mode and keeps its data.
func (s *Server) Stop(ctx context.Context) error {
	return native.Down(ctx, s.cfg.Dir, true, slog.New(slog.DiscardHandler)) //nolint:wrapcheck // a test's
}

func (s *Server) close() error {
	if s.top == "" {
		return nil
	}
	if err := native.Down(context.Background(), s.cfg.Dir, false, slog.New(slog.DiscardHandler)); err != nil {
		return err //nolint:wrapcheck // a test's
	}
	return os.RemoveAll(s.top) //nolint:wrapcheck // a test's
}

// Name makes a name that no other test uses: letters, digits and underscores, valid as a schema, slot or publication.
func Name(t testing.TB, kind string) string {
	t.Helper()
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return -1
	}, strings.ToLower(t.Name()))
	return fmt.Sprintf("t_%s_%s_%06x", kind, name[:min(len(name), 24)], rand.Uint32N(1<<24))
}

// Config returns the shared server's address with a schema of the test's own, which is dropped with it.
func Config(t testing.TB) postgres.Config {
	t.Helper()
	return ConfigOf(t, DSN(t))
}

// ConfigOf is Config for a server of the test's own.
func ConfigOf(t testing.TB, dsn string) postgres.Config {
	t.Helper()
	conn, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	cfg := postgres.Config{Conn: conn, Schema: Name(t, "s"), MaxConns: 10}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		c, err := pgx.ConnectConfig(ctx, conn)
		if err != nil {
			return // the test stopped the server, and its data goes with it
		}
		defer func() { _ = c.Close(ctx) }()
		if _, err := c.Exec(ctx, "DROP SCHEMA IF EXISTS "+postgres.QuoteIdent(cfg.Schema)+" CASCADE"); err != nil {
			t.Errorf("pgtest: drop schema %s: %v", cfg.Schema, err)
		}
	})
	return cfg
}

// Open opens the shared server with a schema of the test's own on the search_path. The schema is not made.
func Open(t testing.TB) *postgres.DB {
	t.Helper()
	return OpenConfig(t, Config(t))
}

// OpenConfig opens a database that is closed with the test.
func OpenConfig(t testing.TB, cfg postgres.Config) *postgres.DB {
	t.Helper()
	db, err := postgres.Open(t.Context(), cfg)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(db.Close)
	return db
}
