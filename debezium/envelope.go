package debezium

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Op is what a change event tells of.
type Op string

// The operations of Debezium's envelope.
const (
	OpRead     Op = "r" // a row met by the snapshot
	OpCreate   Op = "c"
	OpUpdate   Op = "u"
	OpDelete   Op = "d"
	OpTruncate Op = "t"
	OpMessage  Op = "m" // pg_logical_emit_message
)

// Row is a row by column. Numbers are json.Number, so that nothing is lost.
type Row map[string]any

// Envelope is the value of a change event.
type Envelope struct {
	Before      Row        `json:"before"`
	After       Row        `json:"after"`
	Source      Source     `json:"source"`
	Op          Op         `json:"op"`
	TsMs        int64      `json:"ts_ms"` // when the connector made the event; ms since 1970
	TsUs        int64      `json:"ts_us"`
	TsNs        int64      `json:"ts_ns"`
	Transaction *TxElement `json:"transaction"` // nil in a snapshot
}

// Source tells where an event comes from.
type Source struct {
	Version   string `json:"version"`
	Connector string `json:"connector"`
	Name      string `json:"name"`
	TsMs      int64  `json:"ts_ms"` // of the commit; ms since 1970
	TsUs      int64  `json:"ts_us"`
	TsNs      int64  `json:"ts_ns"`
	Snapshot  string `json:"snapshot"` // "first", "true", "last", … or "false"
	DB        string `json:"db"`
	Sequence  string `json:"sequence"` // JSON within JSON: [last commit's LSN, this LSN]; not unique
	Schema    string `json:"schema"`
	Table     string `json:"table"`
	TxID      int64  `json:"txId"`
	LSN       int64  `json:"lsn"` // shared by events of a transaction, and no order across transactions
	Xmin      *int64 `json:"xmin"`
}

// TxElement places an event within its transaction.
type TxElement struct {
	ID                  string `json:"id"` // "txId:LSN" of this event: only the part before the colon is the transaction's
	TotalOrder          int64  `json:"total_order"`
	DataCollectionOrder int64  `json:"data_collection_order"`
}

// TxBoundary is an event of the transaction topic: BEGIN or END of a transaction.
type TxBoundary struct {
	Status          string `json:"status"`
	ID              string `json:"id"`
	TsMs            int64  `json:"ts_ms"`
	EventCount      *int64 `json:"event_count"` // at END
	DataCollections []struct {
		Name       string `json:"data_collection"`
		EventCount int64  `json:"event_count"`
	} `json:"data_collections"`
}

// TxID is the transaction's number, the part of ID that BEGIN, END and the events between them share. The LSN behind it is
// each event's own (seen with 3.6.3).
func (t TxBoundary) TxID() string { id, _, _ := strings.Cut(t.ID, ":"); return id }

// TxID is the transaction's number: see TxBoundary.TxID.
func (t TxElement) TxID() string { id, _, _ := strings.Cut(t.ID, ":"); return id }

// Event is a record of a table's topic.
type Event struct {
	Key       Row       // nil for a truncate
	Envelope  *Envelope // nil for a tombstone
	Tombstone bool
}

// Decode reads a record of a table's topic as the JSON converter writes it, with or without schemas. A null value is a
// tombstone.
func Decode(key, value []byte) (Event, error) {
	var e Event
	k, err := payload(key)
	if err == nil && k != nil {
		err = unmarshal(k, &e.Key)
	}
	if err != nil {
		return e, fmt.Errorf("decode the key: %w", err)
	}
	v, err := payload(value)
	if err != nil {
		return e, fmt.Errorf("decode the value: %w", err)
	}
	if v == nil {
		if e.Key == nil {
			return e, errors.New("a tombstone without a key")
		}
		e.Tombstone = true
		return e, nil
	}
	e.Envelope = &Envelope{}
	if err := unmarshal(v, e.Envelope); err != nil {
		return e, fmt.Errorf("decode the value: %w", err)
	}
	return e, e.check()
}

// check refuses what is no change event, so that a record of another kind is not taken for one.
func (e Event) check() error {
	env := e.Envelope
	var missing string
	switch env.Op {
	case OpRead, OpCreate:
		if env.After == nil {
			missing = "after"
		}
	case OpUpdate:
		if env.After == nil {
			missing = "after"
		}
	case OpDelete:
		if env.Before == nil {
			missing = "before"
		}
	case OpTruncate, OpMessage:
		return nil
	default:
		return fmt.Errorf("op %q is none of Debezium's", env.Op)
	}
	switch {
	case missing != "":
		return fmt.Errorf("op %q without %q", env.Op, missing)
	case e.Key == nil:
		return fmt.Errorf("op %q without a key", env.Op)
	}
	return nil
}

// DecodeTx reads a record of the transaction topic.
func DecodeTx(value []byte) (TxBoundary, error) {
	var t TxBoundary
	v, err := payload(value)
	if err == nil {
		if v == nil {
			return t, errors.New("a transaction event without a value")
		}
		err = unmarshal(v, &t)
	}
	if err != nil {
		return t, fmt.Errorf("decode the transaction event: %w", err)
	}
	if t.Status != "BEGIN" && t.Status != "END" {
		return t, fmt.Errorf("transaction status %q is neither BEGIN nor END", t.Status)
	}
	return t, nil
}

// payload takes the wrapping of schemas.enable=true off. It returns nil for null.
func payload(b []byte) ([]byte, error) {
	if isNull(b) {
		return nil, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	schema, wrapped := fields["schema"]
	inner, ok := fields["payload"]
	if !ok || !wrapped || len(fields) != 2 {
		return b, nil
	}
	// A table may have columns of these names; then the first is no schema.
	if !isNull(schema) && !bytes.HasPrefix(bytes.TrimSpace(schema), []byte("{")) {
		return b, nil
	}
	if isNull(inner) {
		return nil, nil
	}
	return inner, nil
}

func isNull(b []byte) bool {
	b = bytes.TrimSpace(b)
	return len(b) == 0 || bytes.Equal(b, []byte("null"))
}

func unmarshal(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return err //nolint:wrapcheck // wrapped by the callers
	}
	if d.More() {
		return errors.New("more than one JSON value")
	}
	return nil
}
