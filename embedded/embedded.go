// Package embedded starts the data's way within one program, for the first minute and for tests: a local Postgres, and
// franz-go's kfake as the broker, in this process. What it must not be used for is in docs/adr/0001-kfake.md.
package embedded

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/cdcseed/cdcseed/native"
)

// Config says where the engine lives.
type Config struct {
	DataDir     string // kept; empty for a temporary folder that Close removes
	KafkaPort   int    // tried first; a free one is taken when somebody listens there
	PostgresBin string // folder with initdb and postgres; empty: found on this machine
	CacheDir    string
	User        string
	Database    string
	MaxWait     time.Duration
}

// Engine is a Postgres and a broker that are up.
type Engine struct {
	Conn   *pgx.ConnConfig
	Broker string // host:port
	Dir    string

	broker    *kfake.Cluster
	temporary bool
	log       *slog.Logger
}

// prefix begins the names of temporary folders.
const prefix = "cdcseed-demo-"

// Start starts both. Left-overs of killed runs are reaped before.
func Start(ctx context.Context, cfg Config, log *slog.Logger) (*Engine, error) {
	reap(ctx, log)
	e := &Engine{Dir: cfg.DataDir, temporary: cfg.DataDir == "", log: log}
	if e.temporary {
		dir, err := os.MkdirTemp("", prefix)
		if err != nil {
			return nil, fmt.Errorf("make a temporary folder: %w", err)
		}
		e.Dir = dir
	} else if err := os.MkdirAll(e.Dir, 0o755); err != nil { //nolint:gosec // Postgres runs as another user under root
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	if err := e.start(ctx, cfg); err != nil {
		return nil, errors.Join(err, e.Close(context.WithoutCancel(ctx)))
	}
	return e, nil
}

func (e *Engine) start(ctx context.Context, cfg Config) error {
	if err := os.Chmod(e.Dir, 0o755); err != nil { //nolint:gosec // Postgres runs as another user under root
		return fmt.Errorf("open the data folder: %w", err)
	}
	if err := e.claim(); err != nil {
		return err
	}
	password, err := e.password()
	if err != nil {
		return err
	}
	// A server that a killed run left in a kept folder is stopped first: it listens on a port that nobody knows.
	if err := native.Down(ctx, e.stackDir(), true, quiet); err != nil {
		return fmt.Errorf("stop what an earlier run left: %w", err)
	}
	info, err := native.Up(ctx, native.Config{
		Dir: e.stackDir(), CacheDir: cfg.CacheDir, PostgresBin: cfg.PostgresBin, User: cfg.User, Password: password, Database: cfg.Database,
		PostgresOnly: true, MaxWait: cfg.MaxWait,
	}, e.log)
	if err != nil {
		return fmt.Errorf("start Postgres: %w", err)
	}
	if e.Conn, err = pgx.ParseConfig(info.DSN + "?sslmode=disable"); err != nil {
		return fmt.Errorf("address of the local Postgres: %w", err)
	}
	e.Conn.Password = password
	return e.startBroker(ctx, cfg.KafkaPort)
}

func (e *Engine) startBroker(ctx context.Context, port int) error {
	if l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err != nil {
		e.log.Warn("somebody listens on Kafka's port; taking a free one", "port", port)
		port = 0
	} else {
		_ = l.Close()
	}
	opts := []kfake.Opt{
		kfake.NumBrokers(1), kfake.Ports(port),
		// Retention works only on topics that ask for it, this often.
		kfake.BrokerConfigs(map[string]string{"log.cleaner.backoff.ms": "15000"}),
	}
	if !e.temporary {
		opts = append(opts, kfake.DataDir(filepath.Join(e.Dir, "kafka")))
	}
	broker, err := kfake.NewCluster(opts...)
	if err != nil {
		return fmt.Errorf("start the broker: %w", err)
	}
	e.broker, e.Broker = broker, broker.ListenAddrs()[0]
	e.log.Info("broker is ready", "address", e.Broker, "kind", "kfake, in this process")
	return nil
}

var quiet = slog.New(slog.DiscardHandler)

func (e *Engine) stackDir() string { return filepath.Join(e.Dir, "postgres") }

// password reads the password that a kept folder was made with, or makes one.
func (e *Engine) password() (string, error) {
	file := filepath.Join(e.Dir, "password")
	b, err := os.ReadFile(file)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	var r [12]byte
	_, _ = rand.Read(r[:]) // never fails
	password := hex.EncodeToString(r[:])
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write the password: %w", err)
	}
	return password, nil
}

// owner is the file that tells which process works in a folder.
const owner = "owner"

// claim notes that we work in the folder, unless another process does.
func (e *Engine) claim() error {
	file := filepath.Join(e.Dir, owner)
	if b, err := os.ReadFile(file); err == nil && native.ProcessAlive(string(b)) {
		return fmt.Errorf("another cdcseed works in %s", e.Dir)
	}
	if err := os.WriteFile(file, []byte(native.ThisProcess()), 0o600); err != nil {
		return fmt.Errorf("claim the data folder: %w", err)
	}
	return nil
}

// Close stops both and removes a temporary folder.
func (e *Engine) Close(ctx context.Context) error {
	if e.broker != nil {
		e.broker.Close()
		e.broker = nil
	}
	err := native.Down(ctx, e.stackDir(), !e.temporary, quiet)
	if err != nil {
		err = fmt.Errorf("stop Postgres: %w", err)
	}
	if e.temporary {
		return errors.Join(err, os.RemoveAll(e.Dir))
	}
	return errors.Join(err, os.Remove(filepath.Join(e.Dir, owner)))
}

// reap stops what killed runs left in temporary folders, and removes the folders. A folder is a left-over when the process
// that claimed it, told by pid and start time, is gone.
func reap(ctx context.Context, log *slog.Logger) {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*")) // fails on a bad pattern only
	for _, dir := range dirs {
		b, err := os.ReadFile(filepath.Join(dir, owner))
		if err != nil || native.ProcessAlive(string(b)) {
			continue
		}
		err = native.Down(ctx, filepath.Join(dir, "postgres"), false, quiet)
		if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
			log.Warn("a left-over of a killed run stays", "folder", dir, "reason", err)
			continue
		}
		log.Info("a killed run's left-overs are removed", "folder", dir)
	}
}
