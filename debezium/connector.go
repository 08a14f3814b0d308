package debezium

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Connector is the configuration of a Debezium connector for Postgres as this project runs it.
type Connector struct {
	Name string // in Kafka Connect; not part of the rendered configuration

	Host     string // of Postgres, as Connect sees it
	Port     int
	Database string
	User     string
	Password string // or a reference that Connect resolves, such as ${env:NAME}

	TopicPrefix string
	Schema      string   // the only one captured
	Exclude     []string // tables of the schema that are not captured
	Publication string   // must exist
	Slot        string   // made by the connector

	HeartbeatInterval time.Duration
	// SkipTruncates leaves out op t. A truncate's key is null, which a compacted topic refuses.
	SkipTruncates bool
	// Schemas makes the JSON converter send the schema along with each key and value.
	Schemas bool
}

// Defaults of the names that users meet.
const (
	DefaultName        = "cdcseed"
	DefaultSlot        = "cdcseed"
	DefaultPublication = "cdc_pub"
	DefaultPrefix      = "ecomm"
)

// Config renders what Connect takes at PUT /connectors/{name}/config.
func (c Connector) Config() map[string]string {
	skipped := "none"
	if c.SkipTruncates {
		skipped = "t"
	}
	schemas := strconv.FormatBool(c.Schemas)
	exclude := make([]string, len(c.Exclude))
	for i, t := range c.Exclude {
		exclude[i] = regexp.QuoteMeta(c.Schema) + `\.` + regexp.QuoteMeta(t)
	}
	cfg := map[string]string{
		"connector.class":   "io.debezium.connector.postgresql.PostgresConnector",
		"tasks.max":         "1",
		"database.hostname": c.Host,
		"database.port":     strconv.Itoa(c.Port),
		"database.dbname":   c.Database,
		"database.user":     c.User,
		"database.password": c.Password,

		"topic.prefix":        c.TopicPrefix,
		"schema.include.list": regexp.QuoteMeta(c.Schema),
		"table.exclude.list":  strings.Join(exclude, ","),

		// The publication is made by a migration and lists its tables; the connector must not make another.
		"plugin.name":                 "pgoutput",
		"publication.name":            c.Publication,
		"publication.autocreate.mode": "disabled",
		"slot.name":                   c.Slot,
		"slot.drop.on.stop":           "false",
		"snapshot.mode":               "initial",

		// An idle shop must not keep the slot, and with it the WAL, where it is.
		"heartbeat.interval.ms":  strconv.FormatInt(c.HeartbeatInterval.Milliseconds(), 10),
		"heartbeat.action.query": c.HeartbeatQuery(),

		// How often the slot is told what Kafka has; Debezium's own default is 10 s.
		"status.update.interval.ms": strconv.FormatInt(max(c.HeartbeatInterval, time.Second).Milliseconds(), 10),

		"provide.transaction.metadata": "true",
		"tombstones.on.delete":         "true",
		"skipped.operations":           skipped,

		// Exact, and readable without a schema at hand.
		"decimal.handling.mode":  "string",
		"time.precision.mode":    "isostring",
		"interval.handling.mode": "string",

		"key.converter":                  "org.apache.kafka.connect.json.JsonConverter",
		"key.converter.schemas.enable":   schemas,
		"value.converter":                "org.apache.kafka.connect.json.JsonConverter",
		"value.converter.schemas.enable": schemas,
	}
	if len(exclude) == 0 {
		delete(cfg, "table.exclude.list")
	}
	return cfg
}

// HeartbeatQuery is the statement that the connector runs at each heartbeat.
func (c Connector) HeartbeatQuery() string {
	return fmt.Sprintf("UPDATE %s SET ts = now() WHERE id = 1", pgx.Identifier{c.Schema, "heartbeat"}.Sanitize())
}

// JSON renders the configuration as the body of a PUT, keys sorted.
func (c Connector) JSON() ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(c.Config()); err != nil {
		return nil, fmt.Errorf("render the connector's configuration: %w", err)
	}
	return []byte(b.String()), nil
}

// slotName is what Postgres allows: ReplicationSlotValidateName.
var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// ValidSlot reports whether a name may be that of a replication slot. Replication commands take no parameters, so it is
// also what keeps the name from being more than a name.
func ValidSlot(name string) bool { return slotName.MatchString(name) }
