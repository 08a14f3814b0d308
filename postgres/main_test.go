package postgres

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testConfig is the Postgres that `make test` starts. pgtest, which starts one where there is none, imports this package
// and so cannot serve it.
func testConfig(t *testing.T) Config {
	t.Helper()
	dsn := os.Getenv("CDCSEED_TEST_DSN")
	if dsn == "" {
		t.Skip("left out: CDCSEED_TEST_DSN is not set; `make test` sets it")
	}
	conn, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	var b [6]byte
	_, _ = rand.Read(b[:])
	return Config{Conn: conn, Schema: "t_" + hex.EncodeToString(b[:])}
}

func openTest(t *testing.T) *DB {
	t.Helper()
	db, err := Open(t.Context(), testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	if _, err := db.WaitReady(context.WithoutCancel(t.Context()), 0, nil); err != nil {
		t.Fatal(err)
	}
	return db
}
