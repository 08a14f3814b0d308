package models

import (
	"fmt"
	"sync"

	"gorm.io/gorm/schema"
)

// Names of the tables, in the schema that the user chose.
const (
	TableUsers               = "users"
	TableDistributionCenters = "distribution_centers"
	TableProducts            = "products"
	TableInventoryItems      = "inventory_items"
	TableOrders              = "orders"
	TableOrderItems          = "order_items"
	TableEvents              = "events"
	TableHeartbeat           = "heartbeat"
)

// Table describes one table: its name and the struct of its rows.
type Table struct {
	Name string
	Row  any // pointer to a zero row, for GORM's schema parser
}

// Tables lists every table in an order that satisfies the foreign keys: parents before children.
func Tables() []Table {
	return []Table{
		{TableDistributionCenters, &DistributionCenter{}},
		{TableProducts, &Product{}},
		{TableUsers, &User{}},
		{TableInventoryItems, &InventoryItem{}},
		{TableOrders, &Order{}},
		{TableOrderItems, &OrderItem{}},
		{TableEvents, &Event{}},
		{TableHeartbeat, &Heartbeat{}},
	}
}

// ShopTables lists the seven tables of theLook: Tables without the heartbeat, which belongs to the connector.
func ShopTables() []Table {
	all := Tables()
	return all[:len(all)-1]
}

// Names returns the tables' names in the order given.
func Names(tables []Table) []string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.Name
	}
	return names
}

// Schemas parses every table's struct with GORM and returns the results by table name. Statements and COPY column lists
// are derived from them, so that the structs stay the one place where columns are written down.
func Schemas() (map[string]*schema.Schema, error) {
	var cache sync.Map
	out := make(map[string]*schema.Schema, len(Tables()))
	for _, t := range Tables() {
		s, err := schema.Parse(t.Row, &cache, schema.NamingStrategy{})
		if err != nil {
			return nil, fmt.Errorf("parse the model of table %s: %w", t.Name, err)
		}
		out[t.Name] = s
	}
	return out, nil
}
