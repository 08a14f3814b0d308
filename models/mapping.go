package models

import (
	"fmt"
	"reflect"

	"gorm.io/gorm/schema"
)

// Mapping takes rows apart for COPY and for prepared statements: the columns of a table in the struct's order, as GORM
// parsed them, and the values of a row in the same order.
type Mapping struct {
	Table   string
	Columns []string
	Key     string // the primary key's column
	fields  []int  // indices in the struct
}

// Mappings returns the mapping of every table by its name.
func Mappings() (map[string]*Mapping, error) {
	schemas, err := Schemas()
	if err != nil {
		return nil, err
	}
	out := make(map[string]*Mapping, len(schemas))
	for name, s := range schemas {
		m, err := newMapping(s)
		if err != nil {
			return nil, err
		}
		out[name] = m
	}
	return out, nil
}

func newMapping(s *schema.Schema) (*Mapping, error) {
	if s.PrioritizedPrimaryField == nil {
		return nil, fmt.Errorf("models: table %s has no primary key of one column", s.Table)
	}
	m := &Mapping{Table: s.Table, Columns: s.DBNames, Key: s.PrioritizedPrimaryField.DBName}
	for _, c := range s.DBNames {
		index := s.FieldsByDBName[c].StructField.Index
		if len(index) != 1 {
			return nil, fmt.Errorf("models: column %s.%s is not a field of the struct itself", s.Table, c)
		}
		m.fields = append(m.fields, index[0])
	}
	return m, nil
}

// Append appends the values of a row, which is a pointer to the table's struct, in the order of Columns. Strings of named
// types are given as plain strings, which spares the driver a search for how to send them.
func (m *Mapping) Append(dst []any, row any) []any {
	v := reflect.ValueOf(row).Elem()
	for _, i := range m.fields {
		f := v.Field(i)
		if f.Kind() == reflect.String {
			dst = append(dst, f.String())
			continue
		}
		dst = append(dst, f.Interface())
	}
	return dst
}
