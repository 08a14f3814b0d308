package models_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cdcseed/cdcseed/models"
)

func TestOrderStateMachine(t *testing.T) {
	t.Parallel()
	allowed := map[[2]models.OrderStatus]bool{
		{models.Processing, models.Shipped}:   true,
		{models.Processing, models.Cancelled}: true,
		{models.Shipped, models.Complete}:     true,
		{models.Complete, models.Returned}:    true,
	}
	for _, from := range models.OrderStatuses() {
		for _, to := range models.OrderStatuses() {
			if got := from.MayBecome(to); got != allowed[[2]models.OrderStatus{from, to}] {
				t.Errorf("%s may become %s: %v", from, to, got)
			}
		}
		final := from == models.Cancelled || from == models.Returned
		if from.Final() != final || from.HoldsStock() == final {
			t.Errorf("%s: final %v, holds stock %v", from, from.Final(), from.HoldsStock())
		}
	}
	if models.OrderStatus("Lost").Final() || models.OrderStatus("Lost").MayBecome(models.Shipped) {
		t.Error("a station that does not exist is one")
	}
}

func TestMoney(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   any
		want models.Money
		text string
		err  string
	}{
		{in: "12.30", want: 1230, text: "12.30"},
		{in: "-0.05", want: -5, text: "-0.05"},
		{in: []byte("7"), want: 700, text: "7.00"},
		{in: int64(3), want: 300, text: "3.00"},
		{in: 19.99, want: 1999, text: "19.99"},
		{in: "1e3", err: "read amount"},
		{in: "99999999.99", want: 9999999999, text: "99999999.99"},
		{in: "0.001", err: "two decimals"},
		{in: "NaN", err: "no amount"},
		{in: "Infinity", err: "no amount"},
		{in: "12,30", err: "read amount"},
		{in: strings.Repeat("9", 30), err: "out of range"},
		{in: nil, err: "cannot read"},
	} {
		var m models.Money
		err := m.Scan(c.in)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("Scan(%v): %v, want an error with %q", c.in, err, c.err)
			}
			continue
		}
		if err != nil || m != c.want || m.String() != c.text {
			t.Errorf("Scan(%v) = %d, %v as %q; want %d as %q", c.in, m, err, m, c.want, c.text)
		}
	}
}

func FuzzMoney(f *testing.F) {
	for _, s := range []string{"0", "1.5", "-12.34", "1e5", "NaN", "999999999999999999999", "0.009", "1E-30"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var m, again models.Money
		if m.Scan(s) != nil {
			return
		}
		if err := again.Scan(m.String()); err != nil || again != m {
			t.Errorf("%q is %d, whose text %q is %d (%v)", s, m, m, again, err)
		}
		n, err := m.NumericValue()
		if err != nil {
			t.Fatal(err)
		}
		if err := again.ScanNumeric(n); err != nil || again != m {
			t.Errorf("%d goes through NUMERIC as %d (%v)", m, again, err)
		}
	})
}

func TestMoneyRefusesHugeExponents(t *testing.T) {
	t.Parallel()
	var n pgtype.Numeric
	if err := n.Scan("1"); err != nil {
		t.Fatal(err)
	}
	var m models.Money
	for _, exp := range []int32{1 << 30, -1 << 30} {
		n.Exp = exp
		if err := m.ScanNumeric(n); err == nil {
			t.Errorf("exponent %d is taken", exp)
		}
	}
}

func TestMappingsCoverEveryColumn(t *testing.T) {
	t.Parallel()
	maps, err := models.Mappings()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range models.Tables() {
		m := maps[table.Name]
		if m == nil {
			t.Fatalf("no mapping of %s", table.Name)
		}
		if got := m.Append(nil, table.Row); len(got) != len(m.Columns) {
			t.Errorf("%s: %d values for %d columns", table.Name, len(got), len(m.Columns))
		}
		if m.Columns[0] != m.Key {
			t.Errorf("%s: the key %s is not the first column", table.Name, m.Key)
		}
	}
	sold := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	item := models.InventoryItem{ID: 7, SoldAt: &sold, Cost: 120, ProductDepartment: models.Men}
	m := maps[models.TableInventoryItems]
	values := m.Append(nil, &item)
	at := func(column string) any { return values[slices.Index(m.Columns, column)] }
	if at("id") != int64(7) || at("sold_at") != &sold || at("cost") != models.Money(120) || at("product_department") != "Men" {
		t.Errorf("values: %v", values)
	}
}
