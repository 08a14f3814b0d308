package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"github.com/cdcseed/cdcseed/debezium"
	"github.com/cdcseed/cdcseed/postgres"
	"github.com/cdcseed/cdcseed/shop"
	"github.com/cdcseed/cdcseed/topics"
)

// allowed says what a flag takes, for the errors about values that it does not.
var allowed = map[string]string{
	"avg-qps":            "a number of row changes per second, 0 (as fast as possible) or more",
	"ghost-ratio":        "a number from 0 to 1",
	"max-iter":           "a whole number of transactions, 1 or more, or -1 for no end",
	"duration":           "a time such as 30s, 10m or 2h; 0 for no end",
	"workers":            "a whole number from 1 to 64",
	"mix":                "shares such as insert=60,update=30,delete=10",
	"if-exists":          "fail, replace or append",
	"port":               "a port from 1 to 65535",
	"connector-db-port":  "a port from 1 to 65535",
	"postgres-port":      "a port from 1 to 65535, or 0 for any that is free",
	"kafka-port":         "a port from 1 to 65534, or 0 for any that is free",
	"connect-port":       "a port from 1 to 65535, or 0 for any that is free",
	"schema":             "1 to 63 letters, digits, _ and -, not beginning with a digit, - or pg_, and not information_schema",
	"topic-prefix":       "1 to 100 letters, digits, ., _ and -",
	"publication":        "1 to 63 letters, digits and _, not beginning with a digit",
	"slot":               "1 to 63 lower-case letters, digits and _",
	"bootstrap-servers":  "addresses such as localhost:9092,other:9092",
	"connect-url":        "an address such as http://localhost:8083",
	"topic-partitions":   "a whole number from 1 to 10000",
	"topic-replication":  "a whole number from 1 to 100",
	"topic-config":       "key=value, once for each",
	"scale-factor":       "a number above 0, up to 1000; 1 is the public dataset's size",
	"init-users":         "a whole number, 0 or more",
	"init-products":      "a whole number, 1 or more",
	"rand-seed":          "a whole number, 0 (a new one each time) or more",
	"start-time":         "a time such as 2026-01-31T12:00:00Z, not in the future",
	"max-wait":           "a time such as 30s or 5m",
	"heartbeat-interval": "a time such as 10s; 0 turns heartbeats off",
	"sslmode":            "disable, allow, prefer, require, verify-ca or verify-full",
	"sasl-mechanism":     strings.Join(topics.Mechanisms, ", "),
	"dsn":                "a URL such as postgres://user@host:5432/db, or key=value settings",
}

// bad is the error about a value that a flag does not take.
func bad(flag string, value any) error {
	return usagef("--%s %v: allowed is %s", flag, value, allowed[flag])
}

// envName is the environment variable of a flag.
func envName(flag string) string {
	return "CDCSEED_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// flags gives every flag its environment variable, and those of more than one word the spelling with underscores.
func flags(list ...cli.Flag) []cli.Flag {
	for _, f := range list {
		name := f.Names()[0]
		var alias []string
		if under := strings.ReplaceAll(name, "-", "_"); under != name {
			alias = []string{under}
		}
		switch f := f.(type) {
		case *cli.StringFlag:
			f.EnvVars, f.Aliases = slices.Insert(f.EnvVars, 0, envName(name)), append(f.Aliases, alias...)
		case *cli.IntFlag:
			f.EnvVars, f.Aliases = slices.Insert(f.EnvVars, 0, envName(name)), append(f.Aliases, alias...)
		case *cli.Uint64Flag:
			f.EnvVars, f.Aliases = slices.Insert(f.EnvVars, 0, envName(name)), append(f.Aliases, alias...)
		case *cli.Float64Flag:
			f.EnvVars, f.Aliases = slices.Insert(f.EnvVars, 0, envName(name)), append(f.Aliases, alias...)
		case *cli.BoolFlag:
			f.EnvVars, f.Aliases = slices.Insert(f.EnvVars, 0, envName(name)), append(f.Aliases, alias...)
		case *cli.DurationFlag:
			f.EnvVars, f.Aliases = slices.Insert(f.EnvVars, 0, envName(name)), append(f.Aliases, alias...)
		case *cli.StringSliceFlag:
			f.EnvVars, f.Aliases = slices.Insert(f.EnvVars, 0, envName(name)), append(f.Aliases, alias...)
		default:
			panic(fmt.Sprintf("flag --%s is of a kind that flags does not know", name))
		}
	}
	return list
}

// Groups of flags.

func configFlag() []cli.Flag {
	return flags(&cli.StringFlag{Name: "config", Usage: "read flags from a YAML `FILE`; the command line and the environment come first"})
}

func databaseFlags() []cli.Flag {
	return flags(
		&cli.StringFlag{Name: "dsn", Usage: "`ADDRESS` of the database; the flags below overrule its parts"},
		&cli.StringFlag{Name: "host", EnvVars: []string{"PGHOST"}, Value: "localhost", Usage: "Postgres `HOST`"},
		&cli.IntFlag{Name: "port", EnvVars: []string{"PGPORT"}, Value: 5432, Usage: "Postgres `PORT`"},
		&cli.StringFlag{Name: "user", EnvVars: []string{"PGUSER"}, Value: "db_user", Usage: "Postgres `ROLE`"},
		&cli.StringFlag{Name: "password", EnvVars: []string{"PGPASSWORD"}, DefaultText: "~/.pgpass, then db_password", Usage: "the role's `PASSWORD`"},
		&cli.StringFlag{Name: "password-file", Usage: "read the password from the first line of a `FILE`"},
		&cli.StringFlag{Name: "db", EnvVars: []string{"PGDATABASE"}, Value: "fh_dev", Usage: "`DATABASE`"},
		&cli.StringFlag{Name: "sslmode", EnvVars: []string{"PGSSLMODE"}, Value: "prefer", Usage: "`MODE` of TLS: " + allowed["sslmode"]},
		&cli.StringFlag{Name: "schema", Value: "demo", Usage: "`SCHEMA` that holds the tables"},
		&cli.StringFlag{Name: "publication", Value: debezium.DefaultPublication, Usage: "`NAME` of the publication"},
		&cli.DurationFlag{Name: "max-wait", Value: 60 * time.Second, Usage: "how long a server that is away is waited for"},
		&cli.StringFlag{Name: "confirm-db", Usage: "`NAME` of the database, before something is dropped on another machine"},
	)
}

func kafkaFlags() []cli.Flag {
	return flags(
		&cli.StringFlag{Name: "bootstrap-servers", Value: "localhost:9092", Usage: "Kafka's `ADDRESSES`"},
		&cli.BoolFlag{Name: "kafka-tls", Usage: "speak TLS with Kafka"},
		&cli.StringFlag{Name: "kafka-ca", Usage: "`FILE` of the CA certificates (PEM)"},
		&cli.StringFlag{Name: "kafka-cert", Usage: "`FILE` of the client certificate (PEM)"},
		&cli.StringFlag{Name: "kafka-key", Usage: "`FILE` of the client certificate's key (PEM)"},
		&cli.StringFlag{Name: "sasl-mechanism", Usage: allowed["sasl-mechanism"]},
		&cli.StringFlag{Name: "sasl-user", Usage: "Kafka `USER`"},
		&cli.StringFlag{Name: "sasl-password", Usage: "Kafka `PASSWORD`"},
	)
}

func prefixFlag() []cli.Flag {
	return flags(&cli.StringFlag{Name: "topic-prefix", Value: debezium.DefaultPrefix, Usage: "first part of the topics' names"})
}

func topicFlags() []cli.Flag {
	return flags(
		&cli.IntFlag{Name: "topic-partitions", Value: 3, Usage: "partitions of each table's topic"},
		&cli.IntFlag{Name: "topic-replication", Value: 1, Usage: "replicas of each topic"},
		&cli.StringSliceFlag{Name: "topic-config", Usage: "`KEY=VALUE` of the topics' configuration", DefaultText: "cleanup.policy=delete"},
	)
}

func connectorFlags() []cli.Flag {
	return flags(
		&cli.StringFlag{Name: "connector", Value: debezium.DefaultName, Usage: "`NAME` of the connector"},
		&cli.StringFlag{Name: "slot", Value: debezium.DefaultSlot, Usage: "`NAME` of the replication slot"},
		&cli.StringFlag{Name: "connector-db-host", DefaultText: "--host", Usage: "Postgres `HOST` as Connect sees it"},
		&cli.IntFlag{Name: "connector-db-port", DefaultText: "--port", Usage: "Postgres `PORT` as Connect sees it"},
		&cli.StringFlag{Name: "connector-password", DefaultText: "--password", Usage: "database password in the connector's configuration, or a reference such as ${env:NAME} that Connect resolves"},
		&cli.BoolFlag{Name: "connector-schemas", Usage: "send the JSON schema along with each event"},
		&cli.DurationFlag{Name: "heartbeat-interval", Value: 10 * time.Second, Usage: "time between the connector's heartbeats"},
	)
}

func connectURLFlag(value string) []cli.Flag {
	return flags(&cli.StringFlag{Name: "connect-url", Value: value, Usage: "`ADDRESS` of Kafka Connect's REST interface"})
}

func seedFlags() []cli.Flag {
	return flags(
		&cli.Float64Flag{Name: "scale-factor", Value: .01, Usage: "size of the history; 1 is 100,000 users and 2.4 million events"},
		&cli.IntFlag{Name: "init-users", DefaultText: "by --scale-factor", Usage: "`NUMBER` of users"},
		&cli.IntFlag{Name: "init-products", DefaultText: "by --scale-factor", Usage: "`NUMBER` of products"},
		&cli.Uint64Flag{Name: "rand-seed", DefaultText: "a new one", Usage: "`NUMBER` that makes a run repeat; 0 for a new one"},
		&cli.StringFlag{Name: "start-time", DefaultText: "now", Usage: "`TIME` (RFC 3339) at which the history ends and the run begins"},
		&cli.Float64Flag{Name: "ghost-ratio", Aliases: []string{"g"}, Value: .5, Usage: "share of ghosts among the visits that buy nothing"},
	)
}

func jsonFlag() []cli.Flag {
	return flags(&cli.BoolFlag{Name: "json", Usage: "print the result as JSON"})
}

func dryRunFlag() []cli.Flag {
	return flags(&cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, and do nothing"})
}

// What the groups are read into. Reading checks every value and does no I/O beyond the files that flags name.

type databaseOptions struct {
	postgres.Config
	publication string
	maxWait     time.Duration
	confirm     string
	password    string
}

var (
	schemaName      = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,62}$`)
	publicationName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)
	topicPart       = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)
	sslModes        = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
)

const defaultPassword = "db_password"

func readDatabase(c *cli.Context) (databaseOptions, error) {
	o := databaseOptions{publication: c.String("publication"), maxWait: c.Duration("max-wait"), confirm: c.String("confirm-db")}
	o.Schema = c.String("schema")
	switch {
	case !schemaName.MatchString(o.Schema), strings.HasPrefix(strings.ToLower(o.Schema), "pg_"), o.Schema == "information_schema":
		return o, bad("schema", strconv.Quote(o.Schema))
	case !publicationName.MatchString(o.publication):
		return o, bad("publication", strconv.Quote(o.publication))
	case o.maxWait <= 0:
		return o, bad("max-wait", o.maxWait)
	case c.Int("port") < 1 || c.Int("port") > 65535:
		return o, bad("port", c.Int("port"))
	case !slices.Contains(sslModes, c.String("sslmode")):
		return o, bad("sslmode", strconv.Quote(c.String("sslmode")))
	case c.String("host") == "":
		return o, usagef("--host is empty")
	case c.String("password") != "" && c.String("password-file") != "":
		return o, usagef("--password and --password-file exclude each other")
	}
	dsn := c.String("dsn")
	set := func(flag string) bool { return dsn == "" || overrules(c, flag) }
	// The parts are handed to pgx as settings, so that it looks up ~/.pgpass for the right host and role.
	var parts []string
	for _, p := range [][2]string{{"host", "host"}, {"port", "port"}, {"user", "user"}, {"dbname", "db"}, {"sslmode", "sslmode"}} {
		if set(p[1]) {
			parts = append(parts, p[0]+"="+quoteSetting(fmt.Sprint(c.Value(p[1]))))
		}
	}
	settings := strings.Join(parts, " ")
	if dsn != "" {
		settings = dsn
	}
	conf, err := pgx.ParseConfig(settings)
	if err != nil {
		if dsn != "" {
			return o, usagef("--dsn: allowed is %s: %s", allowed["dsn"], redact(withoutDSN(err, dsn)))
		}
		return o, usagef("database address: %s", redact(err.Error()))
	}
	if dsn != "" {
		if set("host") {
			conf.Host = c.String("host")
			conf.Fallbacks = nil
		}
		if set("port") {
			conf.Port = uint16(c.Int("port"))
		}
		if set("user") {
			conf.User = c.String("user")
		}
		if set("db") {
			conf.Database = c.String("db")
		}
	}
	switch {
	case c.String("password-file") != "":
		b, err := os.ReadFile(c.String("password-file"))
		if err != nil {
			return o, usagef("--password-file: %v", err)
		}
		conf.Password, _, _ = strings.Cut(strings.TrimRight(string(b), "\r\n"), "\n")
	case c.String("password") != "" && (dsn == "" || conf.Password == "" || overrules(c, "password")):
		conf.Password = c.String("password")
	case conf.Password == "":
		conf.Password = defaultPassword
	}
	conf.ConnectTimeout = 10 * time.Second
	o.Conn, o.password = conf, conf.Password
	return o, nil
}

// overrules tells whether a flag was set to overrule --dsn. One of libpq's variables was not: a DSN comes before those.
func overrules(c *cli.Context, flag string) bool {
	libpq := map[string]string{"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "db": "PGDATABASE", "password": "PGPASSWORD"}[flag]
	v := os.Getenv(libpq)
	return c.IsSet(flag) && (v == "" || v != fmt.Sprint(c.Value(flag)))
}

// withoutDSN takes the DSN out of pgx's error, which quotes it.
func withoutDSN(err error, dsn string) string { return strings.ReplaceAll(err.Error(), dsn, "…") }

// quoteSetting quotes a value of libpq's key=value format.
func quoteSetting(v string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v) + "'"
}

// local reports whether the database is on this machine.
func (o databaseOptions) local() bool {
	h := o.Conn.Host
	if strings.HasPrefix(h, "/") || h == "localhost" {
		return true
	}
	ip := net.ParseIP(h)
	return ip != nil && ip.IsLoopback()
}

// confirmed refuses to drop on another machine unless the database was named once more.
func (o databaseOptions) confirmed() error {
	if o.local() || o.confirm == o.Conn.Database {
		return nil
	}
	return fmt.Errorf("%s is not on this machine; name the database once more with --confirm-db %s: %w",
		o.Address(), o.Conn.Database, postgres.ErrRefused)
}

func readCluster(c *cli.Context) (topics.Cluster, error) {
	k := topics.Cluster{
		TLS: c.Bool("kafka-tls"), CAFile: c.String("kafka-ca"), CertFile: c.String("kafka-cert"), KeyFile: c.String("kafka-key"),
		Mechanism: strings.ToUpper(c.String("sasl-mechanism")), User: c.String("sasl-user"), Password: c.String("sasl-password"),
	}
	for b := range strings.SplitSeq(c.String("bootstrap-servers"), ",") {
		b = strings.TrimSpace(b)
		host, port, err := net.SplitHostPort(b)
		if n, convErr := strconv.Atoi(port); err != nil || convErr != nil || host == "" || n < 1 || n > 65535 {
			return k, bad("bootstrap-servers", strconv.Quote(b))
		}
		k.Brokers = append(k.Brokers, b)
	}
	switch {
	case k.Mechanism != "" && !slices.Contains(topics.Mechanisms, k.Mechanism):
		return k, bad("sasl-mechanism", strconv.Quote(c.String("sasl-mechanism")))
	case k.Mechanism != "" && (k.User == "" || k.Password == ""):
		return k, usagef("--sasl-mechanism needs --sasl-user and --sasl-password")
	case k.Mechanism == "" && (k.User != "" || k.Password != ""):
		return k, usagef("--sasl-user and --sasl-password need --sasl-mechanism: %s", allowed["sasl-mechanism"])
	case (k.CertFile == "") != (k.KeyFile == ""):
		return k, usagef("--kafka-cert and --kafka-key need each other")
	case !k.TLS && (k.CAFile != "" || k.CertFile != ""):
		return k, usagef("--kafka-ca, --kafka-cert and --kafka-key need --kafka-tls")
	}
	if _, err := k.Config(); err != nil {
		return k, usagef("%v", err)
	}
	return k, nil
}

func readPrefix(c *cli.Context) (string, error) {
	prefix := c.String("topic-prefix")
	if !topicPart.MatchString(prefix) {
		return "", bad("topic-prefix", strconv.Quote(prefix))
	}
	return prefix, nil
}

func readTopicSettings(c *cli.Context) (topics.Settings, error) {
	s := topics.Settings{Config: map[string]string{"cleanup.policy": "delete"}}
	switch n, r := c.Int("topic-partitions"), c.Int("topic-replication"); {
	case n < 1 || n > 10000:
		return s, bad("topic-partitions", n)
	case r < 1 || r > 100:
		return s, bad("topic-replication", r)
	default:
		s.Partitions, s.Replication = int32(n), int16(r)
	}
	for _, kv := range c.StringSlice("topic-config") {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || strings.TrimSpace(k) == "" {
			return s, bad("topic-config", strconv.Quote(kv))
		}
		s.Config[strings.TrimSpace(k)] = strings.TrimSpace(v)
	}
	return s, nil
}

// readConnector describes the connector for a database, a prefix and the topics' configuration.
func readConnector(c *cli.Context, db databaseOptions, prefix string, topicConfig map[string]string) (debezium.Connector, error) {
	conn := debezium.Connector{
		Name: c.String("connector"), Host: db.Conn.Host, Port: int(db.Conn.Port), Database: db.Conn.Database,
		User: db.Conn.User, Password: db.password, TopicPrefix: prefix, Schema: db.Schema, Exclude: bookkeeping,
		Publication: db.publication, Slot: c.String("slot"), HeartbeatInterval: c.Duration("heartbeat-interval"),
		Schemas: c.Bool("connector-schemas"), SkipTruncates: strings.Contains(topicConfig["cleanup.policy"], "compact"),
	}
	if h := c.String("connector-db-host"); h != "" {
		conn.Host = h
	}
	if c.IsSet("connector-db-port") {
		conn.Port = c.Int("connector-db-port")
	}
	if p := c.String("connector-password"); p != "" {
		conn.Password = p
	}
	switch {
	case !topicPart.MatchString(conn.Name):
		return conn, usagef("--connector %q: allowed is 1 to 100 letters, digits, ., _ and -", conn.Name)
	case !debezium.ValidSlot(conn.Slot):
		return conn, bad("slot", strconv.Quote(conn.Slot))
	case conn.Port < 1 || conn.Port > 65535:
		return conn, bad("connector-db-port", conn.Port)
	case conn.HeartbeatInterval < 0:
		return conn, bad("heartbeat-interval", conn.HeartbeatInterval)
	}
	return conn, nil
}

func readConnectURL(c *cli.Context) (string, error) {
	address := c.String("connect-url")
	if address == "" {
		return "", nil
	}
	if _, err := debezium.ParseURL(address); err != nil {
		return "", usagef("--connect-url: allowed is %s", allowed["connect-url"])
	}
	return address, nil
}

// readHistory describes the history to seed, with a new random seed where none is given. now is the clock's time.
func readHistory(c *cli.Context, now time.Time) (shop.HistoryConfig, error) {
	h := shop.HistoryConfig{Seed: c.Uint64("rand-seed"), Start: now, GhostRatio: c.Float64("ghost-ratio")}
	if h.Seed == 0 {
		h.Seed = rand.Uint64N(math.MaxInt64) + 1
	}
	sf := c.Float64("scale-factor")
	if !(sf > 0 && sf <= 1000) {
		return h, bad("scale-factor", sf)
	}
	h.Users, h.Products = shop.Sizes(sf)
	if c.IsSet("init-users") {
		h.Users = c.Int("init-users")
	}
	if c.IsSet("init-products") {
		h.Products = c.Int("init-products")
	}
	if s := c.String("start-time"); s != "" {
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil || t.After(now) || t.Year() < 1980 {
			return h, bad("start-time", strconv.Quote(s))
		}
		h.Start = t
	}
	switch {
	case h.Users < 0 || h.Users > math.MaxInt32:
		return h, bad("init-users", h.Users)
	case h.Products < 1 || h.Products > math.MaxInt32:
		return h, bad("init-products", h.Products)
	case !(h.GhostRatio >= 0 && h.GhostRatio <= 1):
		return h, bad("ghost-ratio", h.GhostRatio)
	}
	return h, nil
}

// defaultStateDir is where the native stack lives unless told otherwise: beyond the home folder, which the unprivileged
// user that Postgres runs as under root may not be able to enter.
func defaultStateDir() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("cdcseed-native-%d", os.Getuid()))
}
