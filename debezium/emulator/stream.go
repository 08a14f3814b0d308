package emulator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/cdcseed/cdcseed/debezium"
)

// relation is what the stream said of a table.
type relation struct {
	table   *table // nil if the table is not captured
	columns []string
}

// message takes one message of pgoutput.
func (e *Emulator) message(ctx context.Context, lsn pglogrepl.LSN, data []byte) error {
	m, err := decode(data)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *pglogrepl.RelationMessage:
		return e.relation(ctx, m)
	case *pglogrepl.BeginMessage:
		e.tx = transaction{open: true, id: m.Xid, commit: m.CommitTime, counts: map[string]int64{}}
	case *pglogrepl.CommitMessage:
		return e.commit(ctx, m)
	case *pglogrepl.InsertMessage:
		return e.change(ctx, lsn, m.RelationID, debezium.OpCreate, nil, m.Tuple)
	case *pglogrepl.UpdateMessage:
		return e.change(ctx, lsn, m.RelationID, debezium.OpUpdate, m.OldTuple, m.NewTuple)
	case *pglogrepl.DeleteMessage:
		return e.change(ctx, lsn, m.RelationID, debezium.OpDelete, m.OldTuple, nil)
	case *pglogrepl.TruncateMessage:
		return e.truncate(ctx, lsn, m)
	}
	return nil
}

// decode parses a message. pglogrepl takes the lengths in a message on trust; a broken one must be an error and not the end
// of the program.
func decode(data []byte) (m pglogrepl.Message, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("emulator: a broken message of pgoutput: %v", r)
		}
	}()
	if len(data) == 0 {
		return nil, errors.New("emulator: an empty message of pgoutput")
	}
	if data[0] == byte(pglogrepl.MessageTypeTruncate) && len(data) >= 5 {
		// Its decoder allocates as many relations as the message claims.
		if n := int(data[1])<<24 | int(data[2])<<16 | int(data[3])<<8 | int(data[4]); n > len(data)/4 {
			return nil, fmt.Errorf("emulator: a truncate of %d relations in %d bytes", n, len(data))
		}
	}
	if m, err = pglogrepl.Parse(data); err != nil {
		return nil, fmt.Errorf("emulator: read a message of pgoutput: %w", err)
	}
	return m, nil
}

// relation takes the description of a table, which precedes its first change and follows each change of its columns.
func (e *Emulator) relation(ctx context.Context, m *pglogrepl.RelationMessage) error {
	r := &relation{}
	for _, c := range m.Columns {
		r.columns = append(r.columns, c.Name)
	}
	e.relations[m.RelationID] = r
	if m.Namespace != e.cfg.Connector.Schema {
		return nil
	}
	t := e.tables[m.RelationName]
	if t == nil {
		return nil
	}
	if !slices.Equal(t.names(), r.columns) {
		if err := e.reload(ctx); err != nil {
			return err
		}
		if t = e.tables[m.RelationName]; t == nil || !slices.Equal(t.names(), r.columns) {
			return fmt.Errorf("emulator: table %s has the columns %v in the stream and others in the catalog by now; use the real Debezium",
				m.RelationName, r.columns)
		}
	}
	r.table = t
	return nil
}

// reload reads the catalog again, over a connection of its own.
func (e *Emulator) reload(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, e.plainConfig())
	if err != nil {
		return fmt.Errorf("emulator: connect to read the catalog: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return e.loadTables(ctx, conn)
}

func (t *table) names() []string {
	out := make([]string, len(t.columns))
	for i, c := range t.columns {
		out[i] = c.name
	}
	return out
}

func (e *Emulator) known(id uint32) (*table, error) {
	r := e.relations[id]
	if r == nil {
		return nil, fmt.Errorf("emulator: a change of relation %d, which the stream did not describe", id)
	}
	return r.table, nil
}

// values reads a tuple; nil stands for NULL. An unchanged TOAST value is taken from the old row, which is there under
// REPLICA IDENTITY FULL, or else replaced by Debezium's placeholder.
func (t *table) values(tuple *pglogrepl.TupleData, old []*string) ([]*string, error) {
	if tuple == nil {
		return nil, nil
	}
	if len(tuple.Columns) != len(t.columns) {
		return nil, fmt.Errorf("emulator: a row of table %s with %d columns instead of %d", t.name, len(tuple.Columns), len(t.columns))
	}
	out := make([]*string, len(t.columns))
	for i, c := range tuple.Columns {
		switch c.DataType {
		case pglogrepl.TupleDataTypeText:
			s := string(c.Data)
			out[i] = &s
		case pglogrepl.TupleDataTypeToast:
			s := unavailable
			out[i] = &s
			if old != nil && old[i] != nil {
				out[i] = old[i]
			}
		}
	}
	return out, nil
}

// unavailable is Debezium's placeholder for a TOAST value that the WAL does not hold.
const unavailable = "__debezium_unavailable_value"

func (e *Emulator) change(ctx context.Context, lsn pglogrepl.LSN, id uint32, op debezium.Op, oldTuple, newTuple *pglogrepl.TupleData) error {
	t, err := e.known(id)
	if err != nil || t == nil {
		return err
	}
	before, err := t.values(oldTuple, nil)
	if err != nil {
		return err
	}
	after, err := t.values(newTuple, before)
	if err != nil {
		return err
	}
	if op != debezium.OpUpdate || before == nil {
		return e.emit(ctx, t, lsn, op, before, after)
	}
	oldKey, newKey := t.key(before), t.key(after)
	if bytes.Equal(oldKey, newKey) {
		return e.emit(ctx, t, lsn, op, before, after)
	}
	// Another key is another row to consumers: a delete with its tombstone, and a create.
	if err := e.emit(ctx, t, lsn, debezium.OpDelete, before, nil); err != nil {
		return err
	}
	return e.emit(ctx, t, lsn, debezium.OpCreate, nil, after)
}

func (e *Emulator) truncate(ctx context.Context, lsn pglogrepl.LSN, m *pglogrepl.TruncateMessage) error {
	if e.cfg.Connector.SkipTruncates {
		return nil
	}
	for _, id := range m.RelationIDs {
		t, err := e.known(id)
		if err != nil {
			return err
		}
		if t == nil {
			continue
		}
		if err := e.emit(ctx, t, lsn, debezium.OpTruncate, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// emit writes a change event of the current transaction, its tombstone if it is a delete, and before the first one BEGIN.
func (e *Emulator) emit(ctx context.Context, t *table, lsn pglogrepl.LSN, op debezium.Op, before, after []*string) error {
	id := txID(e.tx.id, lsn)
	if !e.tx.begun {
		e.tx.begun = true
		if err := e.boundary(ctx, "BEGIN", id); err != nil {
			return err
		}
	}
	collection := e.cfg.Connector.Schema + "." + t.name
	if e.tx.counts[collection] == 0 {
		e.tx.order = append(e.tx.order, collection)
	}
	e.tx.total++
	e.tx.counts[collection]++
	row := after
	if row == nil {
		row = before
	}
	var key []byte
	if row != nil {
		key = t.wrapKey(t.key(row))
	}
	src := source{at: e.tx.commit, snapshot: "false", last: e.lastEnd, lsn: lsn, tx: e.tx.id}
	value := t.envelope(e, op, before, after, src, &element{id: id, total: e.tx.total, collection: e.tx.counts[collection]})
	if err := e.out.send(ctx, t.topic, key, value); err != nil {
		return err
	}
	if op == debezium.OpDelete {
		return e.out.send(ctx, t.topic, key, nil)
	}
	return nil
}

func (e *Emulator) commit(ctx context.Context, m *pglogrepl.CommitMessage) error {
	if e.tx.begun {
		if err := e.boundary(ctx, "END", txID(e.tx.id, m.TransactionEndLSN)); err != nil {
			return err
		}
	}
	e.tx = transaction{}
	e.lastEnd = m.TransactionEndLSN
	e.out.reach(m.TransactionEndLSN)
	return nil
}

func txID(id uint32, lsn pglogrepl.LSN) string {
	return strconv.FormatUint(uint64(id), 10) + ":" + strconv.FormatUint(uint64(lsn), 10)
}

// snapshot reads every table under the slot's exported snapshot and writes its rows as op r.
func (e *Emulator) snapshot(ctx context.Context, conn *pgx.Conn, name string, lsn pglogrepl.LSN, ready func()) error {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return fmt.Errorf("emulator: begin the snapshot: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, fmt.Sprintf("SET TRANSACTION SNAPSHOT '%s'", name)); err != nil {
		return fmt.Errorf("emulator: take over the slot's snapshot: %w", err)
	}
	var at time.Time
	var id uint32
	if err := tx.QueryRow(ctx, "SELECT now(), (txid_snapshot_xmax(txid_current_snapshot()) & 4294967295)::bigint").Scan(&at, &id); err != nil {
		return fmt.Errorf("emulator: ask for the snapshot's time: %w", err)
	}
	ready()
	s := &snapshotWriter{e: e, src: source{at: at, lsn: lsn, tx: id}}
	rows := 0
	for _, n := range e.names {
		t := e.tables[n]
		s.table, s.first = t, true
		r, err := tx.Query(ctx, t.selectSQL(e.cfg.Connector.Schema), pgx.QueryResultFormats{pgx.TextFormatCode})
		if err != nil {
			return fmt.Errorf("emulator: read table %s: %w", n, err)
		}
		for r.Next() {
			rows++
			row := make([]*string, len(t.columns))
			for i, raw := range r.RawValues() {
				if raw != nil {
					v := string(raw)
					row[i] = &v
				}
			}
			if err := s.add(ctx, row); err != nil {
				r.Close()
				return err
			}
		}
		if err := r.Err(); err != nil {
			return fmt.Errorf("emulator: read table %s: %w", n, err)
		}
		s.endTable()
	}
	if err := s.end(ctx); err != nil {
		return err
	}
	e.log.Info("emulator has taken the snapshot", "rows", rows, "tables", len(e.names))
	return nil
}

// snapshotWriter holds each row back until it is known whether another follows it, for the markers of the first and last.
type snapshotWriter struct {
	e     *Emulator
	src   source
	table *table
	first bool // the next row is the table's first
	any   bool // some row was written

	held      []*string
	heldTable *table
	heldFirst bool // the held row is its table's first
	heldLast  bool // the held row is its table's last
}

func (s *snapshotWriter) add(ctx context.Context, row []*string) error {
	if err := s.write(ctx, false); err != nil {
		return err
	}
	s.held, s.heldTable, s.heldFirst, s.heldLast = row, s.table, s.first, false
	s.first = false
	return nil
}

// endTable says that no further row of the table follows.
func (s *snapshotWriter) endTable() {
	if s.heldTable == s.table {
		s.heldLast = true
	}
}

func (s *snapshotWriter) end(ctx context.Context) error { return s.write(ctx, true) }

func (s *snapshotWriter) write(ctx context.Context, last bool) error {
	if s.held == nil {
		return nil
	}
	t := s.heldTable
	src := s.src
	switch {
	case !s.any:
		src.snapshot = "first"
	case last:
		src.snapshot = "last"
	case s.heldLast:
		src.snapshot = "last_in_data_collection"
	case s.heldFirst:
		src.snapshot = "first_in_data_collection"
	default:
		src.snapshot = "true"
	}
	s.any = true
	row := s.held
	s.held = nil
	return s.e.out.send(ctx, t.topic, t.wrapKey(t.key(row)), t.envelope(s.e, debezium.OpRead, nil, row, src, nil))
}
