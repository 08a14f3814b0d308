package shop

import (
	"time"

	"github.com/cdcseed/cdcseed/models"
)

// Kind is what happens to a row.
type Kind uint8

// The kinds, in the order of a Mix.
const (
	Insert Kind = iota
	Update
	Delete
	Kinds int = iota // how many kinds there are
)

// String names the kind as SQL and the mix do, in lower case.
func (k Kind) String() string { return [...]string{"insert", "update", "delete"}[k] }

// Column is a column and the value that an update gives it.
type Column struct {
	Name  string
	Value any
}

// Change is one statement of a transaction.
type Change struct {
	Kind  Kind
	Table string
	Row   any      // Insert: pointer to the struct of models
	Set   []Column // Update: the columns that change
	By    string   // Update, Delete: the column that finds the rows
	Key   any      // Update, Delete: int64, or []int64 for any of them
	Rows  int      // how many rows the shop expects to change; 1 or more
}

// Transaction is what is committed together.
type Transaction struct {
	Op      string // the operation's name
	Shard   int
	At      time.Time // the time that its rows carry
	Changes []Change
	Forced  bool // the mix left nothing that was possible, so it was set aside
}

// Count returns the rows that the transaction is expected to change, by kind.
func (t *Transaction) Count() (by [Kinds]int) {
	for _, c := range t.Changes {
		by[c.Kind] += c.Rows
	}
	return by
}

// Size is the sum of Count.
func (t *Transaction) Size() int {
	n := 0
	for _, c := range t.Changes {
		n += c.Rows
	}
	return n
}

func insert(table string, row any) Change {
	return Change{Kind: Insert, Table: table, Row: row, Rows: 1}
}

func update(table, by string, key any, rows int, set ...Column) Change {
	return Change{Kind: Update, Table: table, By: by, Key: key, Rows: rows, Set: set}
}

func erase(table, by string, key any, rows int) Change {
	return Change{Kind: Delete, Table: table, By: by, Key: key, Rows: rows}
}

// reachStation moves an order and its items to a station; column is the time that the station stamps, if any.
func reachStation(o *order, to models.OrderStatus, column string, at time.Time) []Change {
	set := []Column{{"status", to}}
	if column != "" {
		set = append(set, Column{column, at})
	}
	set = append(set, Column{"updated_at", at})
	return []Change{
		update(models.TableOrders, "order_id", o.id, 1, set...),
		update(models.TableOrderItems, "order_id", o.id, len(o.items), set...),
	}
}
