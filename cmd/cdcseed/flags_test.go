package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/urfave/cli/v2"

	"github.com/cdcseed/cdcseed/await"
	"github.com/cdcseed/cdcseed/postgres"
)

// Every bad value is refused before anything is contacted, naming the flag, the value and what is allowed.
func TestBadValues(t *testing.T) {
	t.Parallel()
	future := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for _, c := range []struct {
		args string
		want []string
	}{
		{"run --avg-qps -1", []string{"--avg-qps -1", "0 (as fast as possible) or more"}},
		{"run --avg-qps NaN", []string{"--avg-qps NaN", "allowed"}},
		{"run --avg_qps Inf", []string{"--avg-qps +Inf", "allowed"}},
		{"run --avg-qps fast", []string{`"fast"`, "--avg-qps", "row changes per second"}},
		{"run --avg_qps fast", []string{`"fast"`, "--avg_qps", "row changes per second"}},
		{"run --ghost-ratio 1.5", []string{"--ghost-ratio 1.5", "from 0 to 1"}},
		{"run -g -0.1", []string{"--ghost-ratio -0.1", "from 0 to 1"}},
		{"run --ghost_ratio NaN", []string{"--ghost-ratio NaN"}},
		{"run --mix upsert=5", []string{"--mix", `"upsert=5"`, "insert=60,update=30,delete=10"}},
		{"run --mix insert=-5", []string{"--mix", "insert=-5"}},
		{"run --if-exists maybe", []string{"--if-exists", `"maybe"`, "fail, replace or append"}},
		{"run --max-iter 0", []string{"--max-iter 0", "-1 for no end"}},
		{"run --max_iter many", []string{`"many"`, "--max_iter", "-1 for no end"}},
		{"run --duration -3s", []string{"--duration -3s"}},
		{"run --duration soon", []string{`"soon"`, "--duration", "30s"}},
		{"run --workers 65", []string{"--workers 65", "1 to 64"}},
		{"run --workers 0", []string{"--workers 0", "1 to 64"}},
		{"run --port 0", []string{"--port 0", "1 to 65535"}},
		{"run --port 65536", []string{"--port 65536", "1 to 65535"}},
		{"run --port x", []string{`"x"`, "--port", "1 to 65535"}},
		{"run --schema pg_catalog", []string{"--schema", `"pg_catalog"`, "not beginning with"}},
		{"run --schema a.b", []string{"--schema", `"a.b"`}},
		{`run --schema x";DROP`, []string{"--schema", "allowed"}},
		{"run --schema information_schema", []string{"--schema"}},
		{"run --publication a-b", []string{"--publication", `"a-b"`}},
		{"run --slot Upper", []string{"--slot", `"Upper"`, "lower-case"}},
		{"run --connector a/b", []string{"--connector", `"a/b"`}},
		{"run --topic-prefix a/b", []string{"--topic-prefix", `"a/b"`}},
		{"run --topic-partitions 0", []string{"--topic-partitions 0", "1 to 10000"}},
		{"run --topic-replication 0", []string{"--topic-replication 0"}},
		{"run --topic-config cleanup.policy", []string{"--topic-config", "key=value"}},
		{"run --bootstrap-servers localhost", []string{"--bootstrap-servers", `"localhost"`, "localhost:9092"}},
		{"run --bootstrap-servers a:1,:9", []string{"--bootstrap-servers", `":9"`}},
		{"run --bootstrap-servers a:70000", []string{"--bootstrap-servers", `"a:70000"`}},
		{"run --connect-url localhost:8083", []string{"--connect-url", "http://localhost:8083"}},
		{"run --sasl-mechanism GSSAPI", []string{"--sasl-mechanism", "SCRAM-SHA-512"}},
		{"run --sasl-mechanism PLAIN", []string{"--sasl-user"}},
		{"run --sasl-user me", []string{"--sasl-mechanism"}},
		{"run --kafka-ca x.pem", []string{"--kafka-tls"}},
		{"run --kafka-tls --kafka-cert x.pem", []string{"--kafka-key"}},
		{"run --kafka-tls --kafka-ca /no/such.pem", []string{"/no/such.pem"}},
		{"run --scale-factor 0", []string{"--scale-factor 0", "above 0"}},
		{"run --scale-factor 1e9", []string{"--scale-factor"}},
		{"run --init-users -1", []string{"--init-users -1"}},
		{"run --init-products 0", []string{"--init-products 0", "1 or more"}},
		{"run --rand-seed -1", []string{"--rand-seed", "whole number"}},
		{"run --start-time yesterday", []string{"--start-time", `"yesterday"`, "2026-01-31T12:00:00Z"}},
		{"run --start-time " + future, []string{"--start-time", "not in the future"}},
		{"run --max-wait 0s", []string{"--max-wait 0s"}},
		{"run --sslmode maybe", []string{"--sslmode", "verify-full"}},
		{"run --heartbeat-interval -1s", []string{"--heartbeat-interval -1s"}},
		{"run --connector-db-port 0", []string{"--connector-db-port 0"}},
		{"run --dsn postgres://u:hush@h:x/d", []string{"--dsn", "postgres://user@host:5432/db"}},
		{"run --password a --password-file b", []string{"--password-file"}},
		{"run --password-file /no/such", []string{"/no/such"}},
		{"run --no-such-flag", []string{"no-such-flag", "cdcseed run --help"}},
		{"run now", []string{`"now"`}},
		{"run --config /no/such.yaml", []string{"/no/such.yaml"}},
		{"walk", []string{`"walk"`, "--help"}},
		{"migrate sideways", []string{`"sideways"`}},
		{"--log-level loud run", []string{"--log-level", "debug"}},
		{"--log-format xml run", []string{"--log-format", "json"}},
		{"topics create --schema 9", []string{"--schema"}},
		{"topics list --topic-prefix !", []string{"--topic-prefix"}},
		{"connector apply --slot A", []string{"--slot"}},
		{"connector show --connect-url nope", []string{"--connect-url"}},
		{"seed --scale-factor -1", []string{"--scale-factor"}},
		{"native up --kafka-port 65535", []string{"--kafka-port 65535"}},
		{"native up --max-wait 0s", []string{"--max-wait"}},
	} {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			// Nothing listens there: a contact would end in another exit code.
			args := strings.Fields(c.args)
			if args[0] == "run" && !strings.Contains(c.args, "--port") && !strings.Contains(c.args, "--dsn") {
				args = append(args[:1:1], append([]string{"--port", "1", "--max-wait", "1ms"}, args[1:]...)...)
			}
			code, out, errOut := cdcseed(t, args...)
			if code != exitUsage {
				t.Errorf("exit %d, want %d", code, exitUsage)
			}
			for _, w := range c.want {
				if !strings.Contains(errOut, w) {
					t.Errorf("message %q does not say %q", errOut, w)
				}
			}
			if strings.Contains(errOut+out, "hush") {
				t.Error("the password is shown")
			}
		})
	}
}

// parsing keeps parallel tests apart: urfave/cli writes to a help flag that all apps of a process share.
var parsing sync.Mutex

// options reads the flags of `run` as the command would.
func options(t *testing.T, args ...string) (runOptions, error) {
	t.Helper()
	var o runOptions
	p := &program{}
	parsing.Lock()
	defer parsing.Unlock()
	app := &cli.App{
		ExitErrHandler: func(*cli.Context, error) {}, DisableSliceFlagSeparator: true, Writer: &strings.Builder{}, ErrWriter: &strings.Builder{},
		Commands: []*cli.Command{{
			Name: "run", Flags: runFlags(ifExistsFail), Before: readConfig,
			Action: func(c *cli.Context) (err error) {
				o, err = readRun(c, time.Now())
				return err
			},
		}, p.topicsCommand()},
	}
	return o, app.Run(append([]string{"cdcseed", "run"}, args...))
}

// The original's options are understood in both spellings.
func TestSpellings(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--avg-qps", "7.5", "--if-exists", "replace", "--max-iter", "9", "--ghost-ratio", "0.25", "--bootstrap-servers", "k:1,l:2", "--topic-prefix", "p", "--no-create-topic"},
		{"--avg_qps", "7.5", "--if_exists", "replace", "--max_iter", "9", "-g", "0.25", "--bootstrap_servers", "k:1,l:2", "--topic_prefix", "p", "--no_create_topic"},
		{"--avg-qps=7.5", "--if_exists=replace", "--max-iter=9", "--ghost_ratio=0.25", "--bootstrap-servers=k:1,l:2", "--topic-prefix=p", "--create-topic=false"},
	} {
		o, err := options(t, args...)
		if err != nil {
			t.Errorf("%v: %v", args, err)
			continue
		}
		if o.workload.Rate != 7.5 || o.ifExists != "replace" || o.workload.MaxIter != 9 || o.history.GhostRatio != .25 ||
			!slices.Equal(o.cluster.Brokers, []string{"k:1", "l:2"}) || o.connector.TopicPrefix != "p" || o.kafka {
			t.Errorf("%v: %+v", args, o)
		}
	}
}

func TestDefaults(t *testing.T) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "PG") {
			t.Setenv(name, "")
			_ = os.Unsetenv(name)
		}
	}
	t.Setenv("PGPASSFILE", filepath.Join(t.TempDir(), "none"))
	o, err := options(t)
	if err != nil {
		t.Fatal(err)
	}
	c := o.db.Conn
	if got := fmt.Sprintf("%s %s %s@%s:%d/%s", o.db.Schema, c.Password, c.User, c.Host, c.Port, c.Database); got != "demo db_password db_user@localhost:5432/fh_dev" {
		t.Errorf("database %s", got)
	}
	if o.workload.Rate != 10 || o.workload.MaxIter != -1 || o.ifExists != "fail" || o.mix.String() != "insert=60,update=30,delete=10" ||
		o.settings.Partitions != 3 || o.settings.Replication != 1 || o.settings.Config["cleanup.policy"] != "delete" || !o.kafka ||
		o.history.Users != 1000 || o.history.Products != 291 || o.history.Seed == 0 || o.url != "" {
		t.Errorf("%+v", o)
	}
}

// The command line comes before the environment, that before the file, that before the default.
func TestPrecedence(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "c.yaml")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("avg_qps: 1\nworkers: 11\nmax-iter: 111\nport: 1111\nschema: from_file\ntopic-config: [cleanup.policy=compact, retention.ms=5]\nno-create-topic: true\npassword: from_file\n")
	t.Setenv("CDCSEED_WORKERS", "12")
	t.Setenv("CDCSEED_MAX_ITER", "112")
	t.Setenv("PGPORT", "2222")
	o, err := options(t, "--config", file, "--max-iter", "113")
	if err != nil {
		t.Fatal(err)
	}
	if o.workload.Rate != 1 || o.workload.Workers != 12 || o.workload.MaxIter != 113 || o.db.Conn.Port != 2222 || o.db.Schema != "from_file" ||
		o.settings.Config["cleanup.policy"] != "compact" || o.settings.Config["retention.ms"] != "5" || o.kafka || o.db.Conn.Password != "from_file" {
		t.Errorf("%+v, port %d, password %s", o, o.db.Conn.Port, o.db.Conn.Password)
	}
	for content, want := range map[string]string{
		"no_such: 1\n": `"no_such"`, "topic_partitions: many\n": "topic_partitions", "topic-partitions:\n": "topic-partitions has no value", "[1]\n": "c.yaml", "config: x\n": "config",
	} {
		write(content)
		if _, err := options(t, "--config", file); err == nil || !strings.Contains(err.Error(), want) || exitCode(err) != exitUsage {
			t.Errorf("%q: %v, want an error with %s", content, err, want)
		}
	}
}

func TestDatabaseAddress(t *testing.T) {
	dir := t.TempDir()
	pass := filepath.Join(dir, "pgpass")
	if err := os.WriteFile(pass, []byte("h1:*:*:u1:from_pgpass\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "password")
	if err := os.WriteFile(file, []byte("from_password_file\nrest\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PGPASSFILE", pass)
	t.Setenv("PGHOST", "h9")
	t.Setenv("PGDATABASE", "d9")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--user", "u9"}, "u9:db_password@h9:5432/d9"},
		{[]string{"--dsn", "postgres://u3@h3/d3"}, "u3:db_password@h3:5432/d3"},
		{[]string{"--host", "h1", "--user", "u1", "--db", "fh_dev"}, "u1:from_pgpass@h1:5432/fh_dev"},
		{[]string{"--host", "h1", "--user", "u1", "--password", "flag", "--db", "fh_dev"}, "u1:flag@h1:5432/fh_dev"},
		{[]string{"--host", "h2", "--password-file", file, "--db", "fh_dev"}, "db_user:from_password_file@h2:5432/fh_dev"},
		{[]string{"--host", "h2", "--password", `it's a \ "secret"`, "--db", "fh_dev"}, `db_user:it's a \ "secret"@h2:5432/fh_dev`},
		{[]string{"--dsn", "postgres://u3:p3@h3:33/d3"}, "u3:p3@h3:33/d3"},
		{[]string{"--dsn", "postgres://u3:p3@h3:33/d3", "--host", "h4", "--port", "44", "--db", "d4", "--user", "u4", "--password", "p4"}, "u4:p4@h4:44/d4"},
		{[]string{"--dsn", "host=h5 user=u5 dbname=d5"}, "u5:db_password@h5:5432/d5"},
	} {
		o, err := options(t, c.args...)
		if err != nil {
			t.Errorf("%v: %v", c.args, err)
			continue
		}
		k := o.db.Conn
		if got := fmt.Sprintf("%s:%s@%s:%d/%s", k.User, k.Password, k.Host, k.Port, k.Database); got != c.want {
			t.Errorf("%v: %s, want %s", c.args, got, c.want)
		}
	}
}

func TestConfirmation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		host, confirm string
		ok            bool
	}{
		{"localhost", "", true}, {"127.0.0.1", "", true}, {"::1", "", true}, {"/var/run/postgresql", "", true},
		{"db.example.com", "", false}, {"db.example.com", "other", false}, {"db.example.com", "fh_dev", true}, {"10.0.0.1", "", false},
	} {
		o, err := options(t, "--host", c.host, "--confirm-db", c.confirm, "--db", "fh_dev")
		if err != nil {
			t.Fatal(err)
		}
		if err := o.db.confirmed(); (err == nil) != c.ok || (err != nil && exitCode(err) != exitRefused) {
			t.Errorf("%s with %q: %v", c.host, c.confirm, err)
		}
	}
}

func TestSecretsLeaveTheCommandLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, env, rest, newEnv []string }{
		{[]string{"cdcseed", "run"}, []string{"A=1"}, []string{"cdcseed", "run"}, []string{"A=1"}},
		{[]string{"cdcseed", "run", "--password", "x", "--port", "1"}, []string{"A=1"}, []string{"cdcseed", "run", "--port", "1"}, []string{"A=1", "CDCSEED_PASSWORD=x"}},
		{[]string{"cdcseed", "run", "--password=x=y"}, []string{"CDCSEED_PASSWORD=old"}, []string{"cdcseed", "run"}, []string{"CDCSEED_PASSWORD=x=y"}},
		{[]string{"cdcseed", "-sasl_password", "x"}, nil, []string{"cdcseed"}, []string{"CDCSEED_SASL_PASSWORD=x"}},
		{[]string{"cdcseed", "run", "--dsn", "postgres://u:p@h/d"}, nil, []string{"cdcseed", "run"}, []string{"CDCSEED_DSN=postgres://u:p@h/d"}},
		{[]string{"cdcseed", "run", "--password"}, nil, []string{"cdcseed", "run", "--password"}, nil},
		{[]string{"cdcseed", "--", "--password", "x"}, nil, []string{"cdcseed", "--", "--password", "x"}, nil},
	} {
		rest, env := moveSecrets(c.args, c.env)
		if !slices.Equal(rest, c.rest) || !slices.Equal(env, c.newEnv) {
			t.Errorf("%v: %v with %v, want %v with %v", c.args, rest, env, c.rest, c.newEnv)
		}
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"cannot reach postgres://u:hush@h:5/d": "cannot reach postgres://u:xxxxx@h:5/d",
		"password=hush host=h":                 "password=xxxxx host=h",
		"password='hu sh' host=h":              "password=xxxxx host=h",
		"http://me:hush@connect:8083/x":        "http://me:xxxxx@connect:8083/x",
		"nothing at localhost:9092 here":       "nothing at localhost:9092 here",
	} {
		if got := redact(in); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, 0}, {usagef("x"), 2}, {fmt.Errorf("a: %w", postgres.ErrUnfit), 3}, {fmt.Errorf("a: %w", &pgconn.PgError{Code: "28P01"}), 3},
		{fmt.Errorf("a: %w", postgres.ErrRefused), 4}, {fmt.Errorf("a: %w", await.ErrUnavailable), 5}, {errors.New("x"), 7},
		{&signalError{syscall.SIGINT}, 130}, {fmt.Errorf("a: %w", &signalError{syscall.SIGTERM}), 143},
	} {
		if got := exitCode(c.err); got != c.code {
			t.Errorf("%v: exit %d, want %d", c.err, got, c.code)
		}
	}
}

// Each flag says what it is for, and no two are the same in one command.
func TestHelp(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--help"}, {"run", "--help"}, {"topics", "--help"}, {"connector", "apply", "--help"}, {"native", "up", "--help"}, {}, {"topics"}} {
		code, out, _ := cdcseed(t, args...)
		if code != 0 || !strings.Contains(out, "USAGE") {
			t.Errorf("%v: exit %d, %s", args, code, out)
		}
		if strings.Contains(out, "db_password") && !strings.Contains(out, "then db_password") {
			t.Errorf("%v shows a password", args)
		}
	}
	if code, out, _ := cdcseed(t, "--version"); code != 0 || !strings.Contains(out, "cdcseed version") {
		t.Errorf("exit %d, %s", code, out)
	}
}
