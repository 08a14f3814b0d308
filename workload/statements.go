package workload

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cdcseed/cdcseed/models"
	"github.com/cdcseed/cdcseed/shop"
)

// statements turns the shop's changes into prepared statements. It goes past GORM's per-row path, which builds each
// statement anew and takes a round trip for it; columns and keys still come from GORM's parsed schema.
type statements struct {
	maps    map[string]*models.Mapping
	inserts map[string]string
}

func newStatements() (*statements, error) {
	maps, err := models.Mappings()
	if err != nil {
		return nil, err
	}
	s := &statements{maps: maps, inserts: map[string]string{}}
	for table, m := range maps {
		marks := make([]string, len(m.Columns))
		quoted := make([]string, len(m.Columns))
		for i, c := range m.Columns {
			marks[i], quoted[i] = fmt.Sprintf("$%d", i+1), ident(c)
		}
		s.inserts[table] = fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", ident(table), strings.Join(quoted, ", "), strings.Join(marks, ", "))
	}
	return s, nil
}

func ident(name string) string { return pgx.Identifier{name}.Sanitize() }

// queue appends a change to a batch.
func (s *statements) queue(b *pgx.Batch, c *shop.Change) {
	switch c.Kind {
	case shop.Insert:
		m := s.maps[c.Table]
		b.Queue(s.inserts[c.Table], m.Append(make([]any, 0, len(m.Columns)), c.Row)...)
	case shop.Update:
		args := make([]any, 0, len(c.Set)+1)
		args = append(args, c.Key)
		for _, col := range c.Set {
			args = append(args, plain(col.Value))
		}
		b.Queue(updateSQL(c), args...)
	case shop.Delete:
		b.Queue("DELETE FROM "+ident(c.Table)+" WHERE "+matches(c), c.Key)
	}
}

// plain gives an enum as the string that it is.
func plain(v any) any {
	if s, ok := v.(models.OrderStatus); ok {
		return string(s)
	}
	return v
}

func updateSQL(c *shop.Change) string {
	var b strings.Builder
	b.WriteString("UPDATE " + ident(c.Table) + " SET ")
	for i, col := range c.Set {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s = $%d", ident(col.Name), i+2)
	}
	b.WriteString(" WHERE " + matches(c))
	return b.String()
}

func matches(c *shop.Change) string {
	if _, many := c.Key.([]int64); many {
		return ident(c.By) + " = ANY ($1)"
	}
	return ident(c.By) + " = $1"
}

// witness returns a query with one argument that tells whether a transaction is in the tables: it is true when one of
// the transaction's rows is as the transaction left it. xid is the transaction's id, for rows that it updated.
func (s *statements) witness(t *shop.Transaction, xid string) (query string, args []any) {
	for i := range t.Changes {
		c := &t.Changes[i]
		key := ident(s.maps[c.Table].Key)
		switch c.Kind {
		case shop.Insert:
			// The key is the first column of every model, and never handed out twice within a run.
			return "SELECT EXISTS (SELECT FROM " + ident(c.Table) + " WHERE " + key + " = $1)", s.maps[c.Table].Append(nil, c.Row)[:1]
		case shop.Delete:
			return "SELECT NOT EXISTS (SELECT FROM " + ident(c.Table) + " WHERE " + matches(c) + ")", []any{c.Key}
		case shop.Update: // tells only by its xmin; gone by where there is nothing else
		}
	}
	c := &t.Changes[0]
	return "SELECT EXISTS (SELECT FROM " + ident(c.Table) + " WHERE " + matches(c) + " AND xmin = $2::text::xid8::xid)", []any{c.Key, xid}
}
