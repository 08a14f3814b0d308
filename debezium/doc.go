// Package debezium is the station on the data's way where commits become change events: it describes the connector as a
// typed value, registers it with Kafka Connect, and reads the events that come out.
package debezium
