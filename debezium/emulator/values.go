package emulator

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/cdcseed/cdcseed/debezium"
)

// column is a column as Connect sees it.
type column struct {
	name    string
	schema  string // JSON of the Connect schema, without the closing brace's field name
	render  func(b *bytes.Buffer, text string)
	notNull bool
}

// table is a captured table.
type table struct {
	name    string
	topic   string
	columns []column
	keys    []int // indices of the primary key's columns
	schemas bool
	// Rendered once: the schemas of key and value.
	keySchema, valueSchema []byte
}

// kind is how a Postgres type goes out: Connect's type, Debezium's name for it with the version, the default where a column
// has one that is not a constant.
type kind struct {
	connect, name string
	fallback      string // JSON
	render        func(b *bytes.Buffer, text string)
}

// kinds are the types that the connector's settings (decimals as strings, times as ISO strings) are known for here. The
// differential test holds them against the real Debezium.
var kinds = map[string]kind{
	"int2":        {"int16", "", "0", verbatim},
	"int4":        {"int32", "", "0", verbatim},
	"int8":        {"int64", "", "0", verbatim},
	"float4":      {"float", "", "0.0", float},
	"float8":      {"double", "", "0.0", float},
	"bool":        {"boolean", "", "false", boolean},
	"numeric":     {"string", "", `"0"`, quoted},
	"text":        {"string", "", `""`, quoted},
	"varchar":     {"string", "", `""`, quoted},
	"bpchar":      {"string", "", `""`, quoted},
	"uuid":        {"string", "io.debezium.data.Uuid", `""`, quoted},
	"json":        {"string", "io.debezium.data.Json", `""`, quoted},
	"jsonb":       {"string", "io.debezium.data.Json", `""`, quoted},
	"bytea":       {"bytes", "", `""`, binary},
	"timestamptz": {"string", "io.debezium.time.ZonedTimestamp", `"1970-01-01T00:00:00.000000Z"`, zoned},
	"date":        {"string", "io.debezium.time.IsoDate", `"1970-01-01Z"`, inUTC},
	"time":        {"string", "io.debezium.time.IsoTime", `"00:00:00Z"`, inUTC},
	"timetz":      {"string", "io.debezium.time.ZonedTime", `"00:00:00Z"`, zonedTime},
	"timestamp":   {"string", "io.debezium.time.IsoTimestamp", `"1970-01-01T00:00:00Z"`, inUTC},
	"interval":    {"string", "io.debezium.time.Interval", `"P0Y0M0DT0H0M0S"`, interval},
}

// inUTC writes a date, time or timestamp without zone, which Debezium marks as UTC.
func inUTC(b *bytes.Buffer, text string) { writeString(b, strings.Replace(text, " ", "T", 1)+"Z") }

// zonedTime turns "23:59:59.5+02" into "21:59:59.5Z".
func zonedTime(b *bytes.Buffer, text string) {
	for _, layout := range []string{"15:04:05.999999Z07", "15:04:05.999999Z07:00", "15:04:05.999999Z07:00:00"} {
		if t, err := time.Parse(layout, text); err == nil {
			writeString(b, t.UTC().Format("15:04:05.999999")+"Z")
			return
		}
	}
	writeString(b, text)
}

// interval spells out every part of Postgres's ISO 8601 interval, as Debezium does: "P-1D" is "P0Y0M-1DT0H0M0S".
func interval(b *bytes.Buffer, text string) {
	parts := map[string]string{}
	day, clock, _ := strings.Cut(strings.TrimPrefix(text, "P"), "T")
	for prefix, s := range map[string]string{"": day, "T": clock} {
		for len(s) > 0 {
			i := strings.IndexAny(s, "YMDHS")
			if i <= 0 {
				writeString(b, text) // "infinity", which has no parts
				return
			}
			parts[prefix+s[i:i+1]] = s[:i]
			s = s[i+1:]
		}
	}
	part := func(name string) string {
		if v := parts[name]; v != "" {
			return v
		}
		return "0"
	}
	writeString(b, fmt.Sprintf("P%sY%sM%sDT%sH%sM%sS", part("Y"), part("M"), part("D"), part("TH"), part("TM"), part("TS")))
}

// array renders Postgres's text of an array of one dimension, element by element.
func array(element func(*bytes.Buffer, string)) func(*bytes.Buffer, string) {
	return func(b *bytes.Buffer, text string) {
		if len(text) < 2 || text[0] != '{' || text[len(text)-1] != '}' {
			writeString(b, text) // the placeholder of a TOAST value
			return
		}
		b.WriteByte('[')
		for i, s := 0, text[1:len(text)-1]; len(s) > 0; i++ {
			if i > 0 {
				b.WriteByte(',')
			}
			value, wasQuoted, rest := arrayElement(s)
			if value == "NULL" && !wasQuoted {
				b.WriteString("null")
			} else {
				element(b, value)
			}
			s = rest
		}
		b.WriteByte(']')
	}
}

// arrayElement takes the first element off the inside of an array's text.
func arrayElement(s string) (value string, wasQuoted bool, rest string) {
	if s[0] != '"' {
		value, rest, _ = strings.Cut(s, ",")
		return value, false, rest
	}
	var v strings.Builder
	i := 1
	for ; i < len(s) && s[i] != '"'; i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		v.WriteByte(s[i])
	}
	return v.String(), true, strings.TrimPrefix(s[min(i+1, len(s)):], ",")
}

// verbatim writes what is a JSON number already.
func verbatim(b *bytes.Buffer, text string) { b.WriteString(text) }

func boolean(b *bytes.Buffer, text string) { b.WriteString(strconv.FormatBool(text == "t")) }

func quoted(b *bytes.Buffer, text string) { writeString(b, text) }

func binary(b *bytes.Buffer, text string) {
	raw, err := hex.DecodeString(strings.TrimPrefix(text, `\x`))
	if err != nil {
		writeString(b, text) // the placeholder of a TOAST value
		return
	}
	writeString(b, base64.StdEncoding.EncodeToString(raw))
}

// float writes a number as Java does, which is how Connect's converter renders a double.
func float(b *bytes.Buffer, text string) {
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil, math.IsNaN(f), math.IsInf(f, 0):
		writeString(b, text) // "NaN", "Infinity", "-Infinity" in Postgres and in Java
		return
	}
	a := math.Abs(f)
	if a != 0 && (a < 1e-3 || a >= 1e7) {
		s := strconv.FormatFloat(f, 'E', -1, 64)
		mantissa, exponent, _ := strings.Cut(s, "E")
		if !strings.Contains(mantissa, ".") {
			mantissa += ".0"
		}
		n, _ := strconv.Atoi(exponent) // as FormatFloat wrote it
		fmt.Fprintf(b, "%sE%d", mantissa, n)
		return
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	b.WriteString(s)
}

// zoned turns Postgres's "2026-01-02 03:04:05.6+00" into "2026-01-02T03:04:05.600000Z". The session's zone is UTC.
func zoned(b *bytes.Buffer, text string) {
	day, clock, ok := strings.Cut(text, " ")
	clock, inUTC := strings.CutSuffix(clock, "+00")
	if !ok || !inUTC {
		writeString(b, text)
		return
	}
	whole, fraction, _ := strings.Cut(clock, ".")
	b.WriteByte('"')
	b.WriteString(day)
	b.WriteByte('T')
	b.WriteString(whole)
	b.WriteByte('.')
	b.WriteString((fraction + "000000")[:6])
	b.WriteString(`Z"`)
}

func writeString(b *bytes.Buffer, s string) {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s)       // a string can always be encoded
	b.Truncate(b.Len() - 1) // Encode ends with a newline
}

// loadTables reads what the publication holds of the schema.
func (e *Emulator) loadTables(ctx context.Context, conn *pgx.Conn) error {
	c := e.cfg.Connector
	rows, err := conn.Query(ctx, `SELECT t.tablename::text, a.attname::text, coalesce(el.typname, ty.typname)::text, el.oid IS NOT NULL,
			coalesce((SELECT string_agg(enumlabel, ',' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = coalesce(el.oid, ty.oid)), ''),
			a.attnotnull, coalesce(pg_get_expr(d.adbin, d.adrelid), ''), coalesce(array_position(i.indkey::int2[], a.attnum), -1)
		FROM pg_publication_tables t
			JOIN pg_namespace n ON n.nspname = t.schemaname
			JOIN pg_class k ON k.relnamespace = n.oid AND k.relname = t.tablename
			JOIN pg_attribute a ON a.attrelid = k.oid AND a.attnum > 0 AND NOT a.attisdropped
			JOIN pg_type ty ON ty.oid = a.atttypid
			LEFT JOIN pg_type el ON el.oid = ty.typelem AND ty.typcategory = 'A'
			LEFT JOIN pg_attrdef d ON d.adrelid = k.oid AND d.adnum = a.attnum AND a.attgenerated = ''
			LEFT JOIN pg_index i ON i.indrelid = k.oid AND i.indisprimary
		WHERE t.pubname = $1 AND t.schemaname = $2 AND t.tablename <> ALL ($3)
		ORDER BY t.tablename, a.attnum`, c.Publication, c.Schema, append([]string{}, c.Exclude...))
	if err != nil {
		return fmt.Errorf("emulator: read the publication's tables: %w", err)
	}
	e.tables, e.names = map[string]*table{}, nil
	type keyColumn struct{ position, index int }
	keys := map[string][]keyColumn{}
	var name, col, typ, labels, fallback string
	var isArray, notNull bool
	var position int
	_, err = pgx.ForEachRow(rows, []any{&name, &col, &typ, &isArray, &labels, &notNull, &fallback, &position}, func() error {
		t := e.tables[name]
		if t == nil {
			t = &table{name: name, topic: c.TopicPrefix + "." + c.Schema + "." + name, schemas: c.Schemas}
			e.tables[name] = t
			e.names = append(e.names, name)
		}
		k, ok := kinds[typ]
		if labels != "" {
			k, ok = kind{"string", "io.debezium.data.Enum", `""`, quoted}, true
		}
		if !ok {
			return fmt.Errorf("column %s.%s is of type %s, which the emulator does not know; use the real Debezium", name, col, typ)
		}
		if position >= 0 {
			keys[name] = append(keys[name], keyColumn{position, len(t.columns)})
		}
		render := k.render
		if isArray {
			render = array(render)
		}
		t.columns = append(t.columns, column{name: col, notNull: notNull, render: render, schema: k.schema(col, isArray, notNull, labels, fallback)})
		return nil
	})
	if err != nil {
		return fmt.Errorf("emulator: read the publication's tables: %w", err)
	}
	if len(e.tables) == 0 {
		return fmt.Errorf("emulator: publication %q holds no table of schema %q", c.Publication, c.Schema)
	}
	slices.Sort(e.names)
	for n, t := range e.tables {
		slices.SortFunc(keys[n], func(a, b keyColumn) int { return a.position - b.position })
		for _, k := range keys[n] {
			t.keys = append(t.keys, k.index)
		}
		if len(t.keys) == 0 {
			return fmt.Errorf("emulator: table %s has no primary key", n)
		}
		t.renderSchemas(c.TopicPrefix + "." + c.Schema + "." + n)
	}
	return nil
}

// schema renders the Connect schema of a column. expression is the column's default in SQL, labels are an enum's.
func (k kind) schema(name string, isArray, notNull bool, labels, expression string) string {
	named := ""
	if k.name != "" {
		named = fmt.Sprintf(`,"name":%q,"version":1`, k.name)
	}
	if labels != "" {
		named += fmt.Sprintf(`,"parameters":{"allowed":%q}`, labels)
	}
	var s string
	if isArray {
		s = fmt.Sprintf(`{"type":"array","items":{"type":%q,"optional":true%s},"optional":%v`, k.connect, named, !notNull)
	} else {
		s = fmt.Sprintf(`{"type":%q,"optional":%v%s`, k.connect, !notNull, named)
	}
	if expression != "" && notNull && !isArray {
		s += `,"default":` + k.constant(expression)
	}
	return s + fmt.Sprintf(`,"field":%q}`, name)
}

// literal is a default that is a constant: a number, true or false, or a quoted string with its type.
var literal = regexp.MustCompile(`^(?:'((?:[^']|'')*)'::[a-z ]+|(-?[0-9.]+)|(true|false))$`)

// constant renders a default. One that is computed for each row, such as now(), has no value to tell; Debezium tells the
// type's zero.
func (k kind) constant(expression string) string {
	m := literal.FindStringSubmatch(expression)
	if m == nil {
		return k.fallback
	}
	var b bytes.Buffer
	switch {
	case m[3] != "":
		return m[3]
	case m[2] != "":
		k.render(&b, m[2])
	default:
		k.render(&b, strings.ReplaceAll(m[1], "''", "'"))
	}
	return b.String()
}

func (t *table) selectSQL(schema string) string {
	cols := make([]string, len(t.columns))
	for i, c := range t.columns {
		cols[i] = pgx.Identifier{c.name}.Sanitize()
	}
	return "SELECT " + strings.Join(cols, ", ") + " FROM " + pgx.Identifier{schema, t.name}.Sanitize()
}

// renderSchemas writes the schemas that go along when schemas are on.
func (t *table) renderSchemas(name string) {
	fields := make([]string, len(t.columns))
	for i, c := range t.columns {
		fields[i] = c.schema
	}
	keyFields := make([]string, len(t.keys))
	for i, k := range t.keys {
		keyFields[i] = t.columns[k].schema
	}
	row := func(field string) string {
		return fmt.Sprintf(`{"type":"struct","fields":[%s],"optional":true,"name":"%s.Value","field":%q}`, strings.Join(fields, ","), name, field)
	}
	t.keySchema = fmt.Appendf(nil, `{"type":"struct","fields":[%s],"optional":false,"name":"%s.Key"}`, strings.Join(keyFields, ","), name)
	t.valueSchema = fmt.Appendf(nil, `{"type":"struct","fields":[%s,%s,%s,%s,{"type":"string","optional":false,"field":"op"},`+
		`{"type":"int64","optional":true,"field":"ts_ms"},{"type":"int64","optional":true,"field":"ts_us"},{"type":"int64","optional":true,"field":"ts_ns"}],`+
		`"optional":false,"name":"%s.Envelope","version":2}`, row("before"), row("after"), sourceSchema, transactionSchema, name)
}

const sourceSchema = `{"type":"struct","fields":[{"type":"string","optional":false,"field":"version"},{"type":"string","optional":false,"field":"connector"},` +
	`{"type":"string","optional":false,"field":"name"},{"type":"int64","optional":false,"field":"ts_ms"},{"type":"string","optional":true,` +
	`"name":"io.debezium.data.Enum","version":1,"parameters":{"allowed":"true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"},` +
	`"default":"false","field":"snapshot"},{"type":"string","optional":false,"field":"db"},{"type":"string","optional":true,"field":"sequence"},` +
	`{"type":"int64","optional":true,"field":"ts_us"},{"type":"int64","optional":true,"field":"ts_ns"},{"type":"string","optional":false,"field":"schema"},` +
	`{"type":"string","optional":false,"field":"table"},{"type":"int64","optional":true,"field":"txId"},{"type":"int64","optional":true,"field":"lsn"},` +
	`{"type":"int64","optional":true,"field":"xmin"},{"type":"string","optional":true,"field":"origin"},{"type":"int64","optional":true,"field":"origin_lsn"}],` +
	`"optional":false,"name":"io.debezium.connector.postgresql.Source","version":1,"field":"source"}`

const transactionSchema = `{"type":"struct","fields":[{"type":"string","optional":false,"field":"id"},{"type":"int64","optional":false,"field":"total_order"},` +
	`{"type":"int64","optional":false,"field":"data_collection_order"}],"optional":true,"name":"event.block","version":1,"field":"transaction"}`

// key renders a row's key without its schema.
func (t *table) key(row []*string) []byte {
	var b bytes.Buffer
	t.object(&b, row, t.keys)
	return b.Bytes()
}

func (t *table) wrapKey(key []byte) []byte { return wrap(t.schemas, t.keySchema, key) }

// wrap puts the schema around a payload when schemas are on.
func wrap(on bool, schema, payload []byte) []byte {
	if !on {
		return payload
	}
	out := make([]byte, 0, len(schema)+len(payload)+len(`{"schema":,"payload":}`))
	out = append(out, `{"schema":`...)
	out = append(out, schema...)
	out = append(out, `,"payload":`...)
	out = append(out, payload...)
	return append(out, '}')
}

// object renders some columns of a row; nil for all.
func (t *table) object(b *bytes.Buffer, row []*string, only []int) {
	if row == nil {
		b.WriteString("null")
		return
	}
	b.WriteByte('{')
	field := func(n, i int) {
		if n > 0 {
			b.WriteByte(',')
		}
		writeString(b, t.columns[i].name)
		b.WriteByte(':')
		if row[i] == nil {
			b.WriteString("null")
			return
		}
		t.columns[i].render(b, *row[i])
	}
	if only == nil {
		for i := range t.columns {
			field(i, i)
		}
	} else {
		for n, i := range only {
			field(n, i)
		}
	}
	b.WriteByte('}')
}

// source is where an event comes from.
type source struct {
	at       time.Time
	snapshot string
	last     pglogrepl.LSN // end of the commit before; 0 if none
	lsn      pglogrepl.LSN
	tx       uint32
}

// element places an event within its transaction.
type element struct {
	id         string
	total      int64
	collection int64
}

// envelope renders the value of a change event.
func (t *table) envelope(e *Emulator, op debezium.Op, before, after []*string, src source, el *element) []byte {
	var b bytes.Buffer
	b.WriteString(`{"before":`)
	t.object(&b, before, nil)
	b.WriteString(`,"after":`)
	t.object(&b, after, nil)
	last := "null"
	if src.last != 0 {
		last = fmt.Sprintf(`\"%d\"`, uint64(src.last))
	}
	us := src.at.UnixMicro()
	c := e.cfg.Connector
	fmt.Fprintf(&b, `,"source":{"version":%q,"connector":"postgresql","name":%q,"ts_ms":%d,"snapshot":%q,"db":`, Version, c.TopicPrefix, us/1000, src.snapshot)
	writeString(&b, c.Database)
	fmt.Fprintf(&b, `,"sequence":"[%s,\"%d\"]","ts_us":%d,"ts_ns":%d,"schema":`, last, uint64(src.lsn), us, us*1000)
	writeString(&b, c.Schema)
	b.WriteString(`,"table":`)
	writeString(&b, t.name)
	fmt.Fprintf(&b, `,"txId":%d,"lsn":%d,"xmin":null,"origin":null,"origin_lsn":null},"transaction":`, src.tx, uint64(src.lsn))
	if el == nil {
		b.WriteString("null")
	} else {
		fmt.Fprintf(&b, `{"id":%q,"total_order":%d,"data_collection_order":%d}`, el.id, el.total, el.collection)
	}
	now := e.now()
	fmt.Fprintf(&b, `,"op":%q,"ts_ms":%d,"ts_us":%d,"ts_ns":%d}`, op, now.UnixMilli(), now.UnixMicro(), now.UnixNano())
	return wrap(t.schemas, t.valueSchema, b.Bytes())
}

const (
	boundaryKeySchema = `{"type":"struct","fields":[{"type":"string","optional":false,"field":"id"}],"optional":false,` +
		`"name":"io.debezium.connector.common.TransactionMetadataKey","version":1}`
	boundarySchema = `{"type":"struct","fields":[{"type":"string","optional":false,"field":"status"},{"type":"string","optional":false,"field":"id"},` +
		`{"type":"int64","optional":true,"field":"event_count"},{"type":"array","items":{"type":"struct","fields":[{"type":"string","optional":false,` +
		`"field":"data_collection"},{"type":"int64","optional":false,"field":"event_count"}],"optional":true,"name":"event.collection","version":1},` +
		`"optional":true,"field":"data_collections"},{"type":"int64","optional":false,"field":"ts_ms"}],"optional":false,` +
		`"name":"io.debezium.connector.common.TransactionMetadataValue","version":1}`
	heartbeatKeySchema = `{"type":"struct","fields":[{"type":"string","optional":false,"field":"serverName"}],"optional":false,` +
		`"name":"io.debezium.connector.common.ServerNameKey","version":1}`
	heartbeatSchema = `{"type":"struct","fields":[{"type":"int64","optional":false,"field":"ts_ms"}],"optional":false,` +
		`"name":"io.debezium.connector.common.Heartbeat","version":1}`
)

// boundary writes BEGIN or END of the current transaction.
func (e *Emulator) boundary(ctx context.Context, status, id string) error {
	c := e.cfg.Connector
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"status":%q,"id":%q,"event_count":`, status, id)
	if status == "BEGIN" {
		b.WriteString(`null,"data_collections":null`)
	} else {
		fmt.Fprintf(&b, `%d,"data_collections":[`, e.tx.total)
		for i, n := range e.tx.order {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(`{"data_collection":`)
			writeString(&b, n)
			fmt.Fprintf(&b, `,"event_count":%d}`, e.tx.counts[n])
		}
		b.WriteByte(']')
	}
	fmt.Fprintf(&b, `,"ts_ms":%d}`, e.tx.commit.UnixMilli())
	key := wrap(c.Schemas, []byte(boundaryKeySchema), fmt.Appendf(nil, `{"id":%q}`, id))
	return e.out.send(ctx, c.TopicPrefix+".transaction", key, wrap(c.Schemas, []byte(boundarySchema), b.Bytes()))
}

// heartbeat renders Debezium's own heartbeat.
func (e *Emulator) heartbeat() (key, value []byte) {
	c := e.cfg.Connector
	key = fmt.Appendf(nil, `{"serverName":%q}`, c.TopicPrefix)
	value = fmt.Appendf(nil, `{"ts_ms":%d}`, e.now().UnixMilli())
	return wrap(c.Schemas, []byte(heartbeatKeySchema), key), wrap(c.Schemas, []byte(heartbeatSchema), value)
}
