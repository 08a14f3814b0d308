// Package postgres is the door to the database on the data's way: it opens the pool that migrations, seed and workload
// share, waits until the server is ready and fit for logical decoding, tells a lost connection from a refused statement,
// and holds the advisory locks by which two cdcseed processes keep out of each other's way.
package postgres

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	gormpg "gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// DB is one database seen through its three doors; all share one pool and one search_path.
type DB struct {
	Pool   *pgxpool.Pool
	SQL    *sql.DB
	Gorm   *gorm.DB
	Schema string

	address string
}

// Name names the server for messages.
func (db *DB) Name() string { return "Postgres at " + db.address }

// Config says how to reach the database.
type Config struct {
	// Conn is parsed from a DSN and PG* variables by pgx.
	Conn *pgx.ConnConfig
	// Schema is put alone on the search_path, so that every unqualified name is one of ours.
	Schema string
	// MaxConns bounds the pool; at least 4.
	MaxConns int
}

// Address names the server for messages: host, port and database, never a password.
func (c Config) Address() string {
	return fmt.Sprintf("%s/%s", net.JoinHostPort(c.Conn.Host, strconv.Itoa(int(c.Conn.Port))), c.Conn.Database)
}

// Open makes the pool. It does not connect yet.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	pc, err := pgxpool.ParseConfig("")
	if err != nil {
		return nil, fmt.Errorf("prepare the pool for %s: %w", cfg.Address(), err)
	}
	pc.ConnConfig = cfg.Conn.Copy()
	if pc.ConnConfig.RuntimeParams == nil {
		pc.ConnConfig.RuntimeParams = map[string]string{}
	}
	params := pc.ConnConfig.RuntimeParams
	if params["application_name"] == "" {
		params["application_name"] = "cdcseed"
	}
	params["search_path"] = QuoteIdent(cfg.Schema)
	params["timezone"] = "UTC"
	pc.MaxConns = int32(max(cfg.MaxConns, 4))
	pc.MaxConnIdleTime = time.Minute
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("make the pool for %s: %w", cfg.Address(), err)
	}
	sqlDB := stdlib.OpenDBFromPool(pool)
	g, err := Gorm(sqlDB)
	if err != nil {
		pool.Close()
		return nil, err
	}
	return &DB{Pool: pool, SQL: sqlDB, Gorm: g, Schema: cfg.Schema, address: cfg.Address()}, nil
}

// Gorm puts GORM on a pool, a connection or a transaction of database/sql.
func Gorm(conn gorm.ConnPool) (*gorm.DB, error) {
	g, err := gorm.Open(gormpg.New(gormpg.Config{Conn: conn}), &gorm.Config{
		DisableAutomaticPing:   true,
		SkipDefaultTransaction: true,
		Logger:                 logger.Discard, // errors are returned; the caller decides what is logged
	})
	if err != nil {
		return nil, fmt.Errorf("open gorm: %w", err)
	}
	return g, nil
}

// Close closes the pool.
func (db *DB) Close() {
	_ = db.SQL.Close()
	db.Pool.Close()
}

// QuoteIdent quotes an identifier for SQL.
func QuoteIdent(name string) string { return pgx.Identifier{name}.Sanitize() }

// Lost reports whether err means that the connection is gone or the server is not taking any, so that trying again later
// may help. SQLSTATE 08: connection exception; 57P01-57P03: shutting down or starting up; 53300: no slot free.
func Lost(err error) bool {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		switch pgErr.Code {
		case "57P01", "57P02", "57P03", "53300":
			return true
		}
		return len(pgErr.Code) == 5 && pgErr.Code[:2] == "08"
	}
	var netErr net.Error
	var record tls.RecordHeaderError
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.As(err, &record):
		return false
	case errors.As(err, &netErr), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return true
	}
	var connErr *pgconn.ConnectError
	return errors.As(err, &connErr) || pgconn.SafeToRetry(err) || err.Error() == "conn closed"
}

// Conflict reports whether the server asks for the transaction to be run again: serialization failure or deadlock.
func Conflict(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == "40001" || pgErr.Code == "40P01")
}
