package native

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The settings that the native stack and docker-compose.yml share; a test holds the two against each other.

// ClusterID is the KRaft cluster's id: any 16 bytes in base64, the same at every start.
const ClusterID = "Y2Rjc2VlZC1uYXRpdmUtMQ"

// PasswordVariable is the environment variable of the Connect worker that ${env:...} in the connector's configuration
// refers to, so that the database's password is not stored in Kafka.
const PasswordVariable = "CDCSEED_DB_PASSWORD" //nolint:gosec // a name, no password

// PostgresSettings are what logical decoding needs; durability stays at the defaults.
var PostgresSettings = map[string]string{
	"wal_level":                "logical",
	"max_wal_senders":          "40",
	"max_replication_slots":    "40",
	"max_slot_wal_keep_size":   "4GB",
	"max_connections":          "200",
	"wal_sender_timeout":       "120s",
	"log_replication_commands": "off",
}

// BrokerSettings are a single broker's that is its own controller.
func BrokerSettings() map[string]string {
	return map[string]string{
		"node.id":                                          "1",
		"process.roles":                                    "broker,controller",
		"controller.listener.names":                        "CONTROLLER",
		"auto.create.topics.enable":                        "false",
		"num.partitions":                                   "3",
		"default.replication.factor":                       "1",
		"offsets.topic.replication.factor":                 "1",
		"offsets.topic.num.partitions":                     "3",
		"transaction.state.log.replication.factor":         "1",
		"transaction.state.log.min.isr":                    "1",
		"transaction.state.log.num.partitions":             "3",
		"share.coordinator.state.topic.replication.factor": "1",
		"share.coordinator.state.topic.min.isr":            "1",
		"group.initial.rebalance.delay.ms":                 "0",
	}
}

// WorkerSettings are Connect's.
func WorkerSettings() map[string]string {
	return map[string]string{
		"group.id":                          "cdcseed-connect",
		"config.storage.topic":              "cdcseed_connect_configs",
		"offset.storage.topic":              "cdcseed_connect_offsets",
		"status.storage.topic":              "cdcseed_connect_statuses",
		"config.storage.replication.factor": "1",
		"offset.storage.replication.factor": "1",
		"status.storage.replication.factor": "1",
		"offset.storage.partitions":         "1",
		"status.storage.partitions":         "1",
		"offset.flush.interval.ms":          "2000",
		"key.converter":                     "org.apache.kafka.connect.json.JsonConverter",
		"value.converter":                   "org.apache.kafka.connect.json.JsonConverter",
		"topic.creation.enable":             "false", // cdcseed creates them beforehand
		"config.providers":                  "env",
		"config.providers.env.class":        "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
	}
}

// patience and connectPatience keep a starved machine's servers from giving each other up. They are no part of what the
// stacks share: a container's machine is supposed to be sound.
var (
	patience = map[string]string{
		"initial.broker.registration.timeout.ms": "900000",
		"broker.session.timeout.ms":              "120000",
		"controller.quorum.election.timeout.ms":  "30000",
		"controller.quorum.fetch.timeout.ms":     "120000",
		"controller.quorum.request.timeout.ms":   "120000",
	}
	connectPatience = map[string]string{
		"session.timeout.ms":               "120000",
		"heartbeat.interval.ms":            "3000",
		"rebalance.timeout.ms":             "120000",
		"request.timeout.ms":               "125000",
		"scheduled.rebalance.max.delay.ms": "0",
	}
)

// writeProperties writes a Java properties file, keys sorted, and returns its path.
func (s *stack) writeProperties(name string, settings map[string]string) (string, error) {
	var b bytes.Buffer
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "%s=%s\n", k, strings.ReplaceAll(settings[k], `\`, `\\`))
	}
	return s.writeFile(name, b.Bytes())
}

// logging keeps the servers' logs to what tells a story.
const logging = `<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="WARN">
  <Appenders>
    <Console name="out"><PatternLayout pattern="%d %p %c{1} - %m%n"/></Console>
  </Appenders>
  <Loggers>
    <Root level="WARN"><AppenderRef ref="out"/></Root>
    <Logger name="io.debezium" level="INFO"/>
    <Logger name="kafka.server.KafkaRaftServer" level="INFO"/>
    <Logger name="org.apache.kafka.connect.runtime.Worker" level="INFO"/>
  </Loggers>
</Configuration>
`

func (s *stack) writeLogging() (string, error) { return s.writeFile("log4j2.xml", []byte(logging)) }

func (s *stack) writeFile(name string, content []byte) (string, error) {
	path := filepath.Join(s.Dir, name)
	if err := os.WriteFile(path, content, 0o644); err != nil { //nolint:gosec // no secrets in it
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	return path, nil
}

// javaArgs is the command line of a Java server: quick to start and small rather than fast at length.
func javaArgs(lib, logging, heap, class string, args ...string) []string {
	return append([]string{
		"-Xmx" + heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
		"-Dlog4j2.configurationFile=" + logging, "-Dlog4j.configurationFile=" + logging,
		"-cp", filepath.Join(lib, "kafka", "*"), class,
	}, args...)
}

// tail returns the last n lines of a file, for an error message.
func tail(path string, n int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
