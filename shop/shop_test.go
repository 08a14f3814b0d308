package shop_test

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cdcseed/cdcseed/models"
	"github.com/cdcseed/cdcseed/shop"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func history(t testing.TB, cfg shop.HistoryConfig) *shop.History {
	t.Helper()
	h, err := shop.NewHistory(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func small(seed uint64) shop.HistoryConfig {
	return shop.HistoryConfig{Seed: seed, Start: start, Users: 1000, Products: 291, GhostRatio: .5}
}

func TestHistoryRepeatsWhateverTheBatches(t *testing.T) {
	t.Parallel()
	tell := func(seed uint64, batch int) shop.Batch {
		var all shop.Batch
		h := history(t, small(seed))
		for b := h.Next(batch); b != nil; b = h.Next(batch) {
			all.Users = append(all.Users, b.Users...)
			all.Inventory = append(all.Inventory, b.Inventory...)
			all.Orders = append(all.Orders, b.Orders...)
			all.Items = append(all.Items, b.Items...)
			all.Events = append(all.Events, b.Events...)
		}
		return all
	}
	a, b, other := tell(1, 7), tell(1, 500), tell(2, 500)
	if !reflect.DeepEqual(a, b) {
		t.Error("the same seed tells two pasts")
	}
	if reflect.DeepEqual(a, other) {
		t.Error("two seeds tell the same past")
	}
	if !reflect.DeepEqual(history(t, small(1)).Products(0, 291), history(t, small(1)).Products(0, 1000)) {
		t.Error("the catalogue does not repeat")
	}
}

// Every claim that the design makes about the past, checked row by row.
func TestHistoryIsSound(t *testing.T) {
	t.Parallel()
	h := history(t, shop.HistoryConfig{Seed: 42, Start: start, Users: 10_000, Products: 2912, GhostRatio: .5})
	products := map[int64]models.Product{}
	centers := map[int64]bool{}
	for _, c := range h.Centers() {
		centers[c.ID] = true
	}
	for _, p := range h.Products(0, 2912) {
		if products[p.ID].ID != 0 || p.Cost <= 0 || p.Cost >= p.RetailPrice || !centers[p.DistributionCenterID] {
			t.Fatalf("product %+v", p)
		}
		products[p.ID] = p
	}
	var (
		users     = map[int64]models.User{}
		inventory = map[int64]models.InventoryItem{}
		orders    = map[int64]models.Order{}
		items     = map[int64]int32{}
		statuses  = map[models.OrderStatus]int{}
		sold      = map[int64]bool{}
		emails    = map[string]bool{}
		events    = map[int64]bool{}
		rows      [5]int
		ghosts    int
		lastOf    = map[string]models.Event{}
	)
	between := func(what string, times ...*time.Time) {
		t.Helper()
		var last time.Time
		for _, x := range times {
			if x == nil {
				continue
			}
			if x.Before(last) || x.After(start) {
				t.Fatalf("%s: %v after %v, with history ending at %v", what, x, last, start)
			}
			last = *x
		}
	}
	for b := h.Next(500); b != nil; b = h.Next(500) {
		for _, u := range b.Users {
			if users[u.ID].ID != 0 || emails[u.Email] || u.Age < 12 || u.Age > 70 || (u.Gender != models.Male && u.Gender != models.Female) {
				t.Fatalf("user %+v", u)
			}
			users[u.ID], emails[u.Email] = u, true
			between("user", &u.CreatedAt, &u.UpdatedAt)
		}
		for _, i := range b.Inventory {
			p, ok := products[i.ProductID]
			if !ok || inventory[i.ID].ID != 0 || i.ProductName != p.Name || i.ProductSKU != p.SKU || i.Cost != p.Cost {
				t.Fatalf("inventory item %+v of product %+v", i, p)
			}
			inventory[i.ID] = i
			between("inventory item", &i.CreatedAt, i.SoldAt, &i.UpdatedAt)
		}
		for _, o := range b.Orders {
			u, ok := users[o.UserID]
			if !ok || orders[o.OrderID].OrderID != 0 || o.Gender != u.Gender {
				t.Fatalf("order %+v", o)
			}
			orders[o.OrderID] = o
			statuses[o.Status]++
			between("order "+string(o.Status), &u.CreatedAt, &o.CreatedAt, o.ShippedAt, o.DeliveredAt, o.ReturnedAt, &o.UpdatedAt)
			set := [3]bool{o.ShippedAt != nil, o.DeliveredAt != nil, o.ReturnedAt != nil}
			if want := map[models.OrderStatus][3]bool{
				models.Shipped: {true}, models.Complete: {true, true}, models.Returned: {true, true, true},
			}[o.Status]; set != want {
				t.Fatalf("order %+v has the times of another station", o)
			}
		}
		for _, i := range b.Items {
			o, inv := orders[i.OrderID], inventory[i.InventoryItemID]
			if o.UserID != i.UserID || o.Status != i.Status || inv.ProductID != i.ProductID || inv.ID == 0 || i.SalePrice != products[i.ProductID].RetailPrice {
				t.Fatalf("order item %+v of %+v, %+v", i, o, inv)
			}
			items[o.OrderID]++
			if o.Status.HoldsStock() {
				if sold[inv.ID] || inv.SoldAt == nil {
					t.Fatalf("inventory item %+v is sold twice or not at all", inv)
				}
				sold[inv.ID] = true
			}
			between("order item", &inv.CreatedAt, &i.CreatedAt, i.ShippedAt, i.DeliveredAt, i.ReturnedAt)
		}
		for _, e := range b.Events {
			if events[e.ID] {
				t.Fatalf("event id %d twice", e.ID)
			}
			events[e.ID] = true
			if e.UserID == nil {
				ghosts++
				between("ghost event", &e.CreatedAt)
			} else {
				u := users[*e.UserID]
				between("event", &u.CreatedAt, &e.CreatedAt)
			}
			last := lastOf[e.SessionID]
			if e.SequenceNumber != last.SequenceNumber+1 || e.CreatedAt.Before(last.CreatedAt) {
				t.Fatalf("event %+v after %+v", e, last)
			}
			lastOf[e.SessionID] = e
		}
		for i, n := range []int{len(b.Users), len(b.Inventory), len(b.Orders), len(b.Items), len(b.Events)} {
			rows[i] += n
		}
	}
	for id, i := range inventory {
		if (i.SoldAt != nil) != sold[id] {
			t.Fatalf("inventory item %+v: sold %v by the orders", i, sold[id])
		}
	}
	for id, o := range orders {
		if items[id] != o.NumOfItem {
			t.Fatalf("order %+v has %d items", o, items[id])
		}
	}
	// A tenth of the public dataset, within a few percent.
	for i, want := range []float64{10_000, 49_000, 12_500, 18_125, 240_000} {
		if math.Abs(float64(rows[i])-want) > want*.03 {
			t.Errorf("table %d of users, inventory, orders, items, events has %d rows, want about %v", i, rows[i], want)
		}
	}
	for status, share := range map[models.OrderStatus]float64{
		models.Processing: .20, models.Shipped: .30, models.Complete: .25, models.Cancelled: .15, models.Returned: .10,
	} {
		if got := float64(statuses[status]) / float64(rows[2]); math.Abs(got-share) > .01 {
			t.Errorf("%s: share %.4f, want %.2f within a point", status, got, share)
		}
	}
	if ghosts == 0 {
		t.Error("no ghost came")
	}
}

func TestHistoryRefusesNonsense(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*shop.HistoryConfig){
		"users":    func(c *shop.HistoryConfig) { c.Users = -1 },
		"products": func(c *shop.HistoryConfig) { c.Products = 0 },
		"ghosts":   func(c *shop.HistoryConfig) { c.GhostRatio = math.NaN() },
		"start":    func(c *shop.HistoryConfig) { c.Start = time.Time{} },
	} {
		cfg := small(1)
		spoil(&cfg)
		if _, err := shop.NewHistory(cfg); err == nil {
			t.Errorf("%s: %+v is taken", name, cfg)
		}
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	var per [shop.Shards]int
	for n := range 1000 {
		id := shop.NthID(n)
		s, ok := shop.ShardOf(id)
		if !ok || id%shop.Stride == 0 || s != n%shop.Shards {
			t.Fatalf("row %d: id %d, shard %d, %v", n, id, s, ok)
		}
		per[s]++
	}
	if _, ok := shop.ShardOf(shop.Stride); ok {
		t.Error("a row inserted by hand belongs to a shard")
	}
	if shop.NthID(0) != 1 || shop.NthID(63) != 64 || shop.NthID(64) != 66 {
		t.Errorf("ids %d, %d, %d", shop.NthID(0), shop.NthID(63), shop.NthID(64))
	}
}

// Over any sequence of actions no rule of the life cycle is broken.
func TestVisitorRules(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	actions := []shop.Action{shop.View, shop.Cart, shop.Uncart, shop.Purchase, shop.Return}
	seen := map[shop.Action]int{}
	for range 200 {
		var v shop.Visitor
		viewed, cart, bought := map[int64]bool{}, map[int64]bool{}, map[int64]int{}
		for range 500 {
			p, a := r.Int64N(5), actions[r.IntN(len(actions))]
			got := v.Act(a, p)
			possible := map[shop.Action]bool{
				shop.View: true, shop.Cart: viewed[p] && !cart[p], shop.Uncart: cart[p], shop.Purchase: cart[p], shop.Return: bought[p] > 0,
			}[a]
			if possible && got != a || !possible && got != shop.View {
				t.Fatalf("action %d on %d became %d; viewed %v, cart %v, bought %v", a, p, got, viewed[p], cart[p], bought[p])
			}
			seen[got]++
			switch got {
			case shop.View:
				viewed[p] = true
			case shop.Cart:
				cart[p] = true
			case shop.Uncart:
				cart[p] = false
			case shop.Purchase:
				cart[p] = false
				bought[p]++
			case shop.Return:
				bought[p]--
			}
		}
	}
	for _, a := range actions {
		if seen[a] == 0 {
			t.Errorf("action %d never came about", a)
		}
	}
}

// open makes a living shop out of a history.
func open(t testing.TB, cfg shop.Config, past shop.HistoryConfig) *shop.Shop {
	t.Helper()
	s, err := shop.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h := history(t, past)
	for _, p := range h.Products(0, past.Products) {
		s.AddProduct(p)
	}
	for b := h.Next(500); b != nil; b = h.Next(500) {
		perUser := map[int64]int{}
		type visit struct {
			first, last int64
			count       int
		}
		ghosts := map[string]*visit{}
		var order []string
		for _, e := range b.Events {
			s.SeenEvent(e.ID)
			if e.UserID != nil {
				perUser[*e.UserID]++
				continue
			}
			if ghosts[e.SessionID] == nil {
				ghosts[e.SessionID] = &visit{first: e.ID}
				order = append(order, e.SessionID)
			}
			ghosts[e.SessionID].last = e.ID
			ghosts[e.SessionID].count++
		}
		for i := range b.Users {
			s.AddUser(&b.Users[i], perUser[b.Users[i].ID])
		}
		for _, o := range b.Orders {
			s.AddOrder(o.OrderID, o.UserID, o.Status)
		}
		referenced := map[int64]bool{}
		for _, i := range b.Items {
			s.AddOrderItem(i.ID, i.OrderID, i.InventoryItemID, i.ProductID, false)
			referenced[i.InventoryItemID] = true
		}
		for _, i := range b.Inventory {
			s.AddPiece(i.ID, i.ProductID, i.SoldAt != nil, referenced[i.ID])
		}
		for _, id := range order {
			s.AddGhost(ghosts[id].first, ghosts[id].last, ghosts[id].count)
		}
	}
	s.Seen(start)
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	return s
}

func all(mix shop.Mix) shop.Config {
	return shop.Config{Seed: 5, Run: 1, Mix: mix, GhostRatio: .5, To: shop.Shards}
}

func TestMixIsHeld(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"insert=60,update=30,delete=10", "insert=1,update=1,delete=1", "insert=100", "update=100", "insert=99,update=1",
		"insert=50,delete=50", "update=50,delete=50", "insert=10,update=80,delete=10", "insert=98,update=1,delete=1",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			mix, err := shop.ParseMix(text)
			if err != nil {
				t.Fatal(err)
			}
			s := open(t, all(mix), small(1))
			var by [shop.Kinds]int
			n := 0
			for at := start; n < 10_000; at = at.Add(time.Millisecond) {
				tx := s.Next(at, -1)
				if tx.Forced {
					t.Fatalf("after %d changes nothing was possible", n)
				}
				for k, d := range tx.Count() {
					by[k] += d
					n += d
				}
			}
			for k := range by {
				if got := float64(by[k]) / float64(n); math.Abs(got-mix[k]) > .02 {
					t.Errorf("%s: %.4f of %d changes, want %.4f within two points", shop.Kind(k), got, n, mix[k])
				}
			}
		})
	}
}

// A shop that only deletes ends up empty, and says so by forced sign-ups instead of standing still.
func TestOnlyDeletes(t *testing.T) {
	t.Parallel()
	past := small(1)
	past.Users = 20
	s := open(t, all(shop.Mix{0, 0, 1}), past)
	forced := 0
	for i := range 3000 {
		if tx := s.Next(start.Add(time.Duration(i)), -1); tx.Forced {
			forced++
		}
	}
	if forced == 0 {
		t.Error("a shop of twenty customers lets 3000 deletes happen")
	}
}

// ledger applies transactions to a simple picture of the tables and checks that each change is possible.
type ledger struct {
	t    *testing.T
	rows map[string]map[int64]map[string]any
}

func newLedger(t *testing.T) *ledger {
	t.Helper()
	return &ledger{t: t, rows: map[string]map[int64]map[string]any{}}
}

func (l *ledger) table(name string) map[int64]map[string]any {
	if l.rows[name] == nil {
		l.rows[name] = map[int64]map[string]any{}
	}
	return l.rows[name]
}

func (l *ledger) insert(maps map[string]*models.Mapping, table string, row any) {
	m := maps[table]
	values := m.Append(nil, row)
	r := map[string]any{}
	for i, c := range m.Columns {
		r[c] = values[i]
	}
	id := values[0].(int64)
	if l.table(table)[id] != nil {
		l.t.Fatalf("%s: id %d is inserted twice", table, id)
	}
	l.table(table)[id] = r
}

func (l *ledger) matching(c *shop.Change) []int64 {
	var ids []int64
	for id, r := range l.table(c.Table) {
		switch k := c.Key.(type) {
		case []int64:
			if slices.Contains(k, id) {
				ids = append(ids, id)
			}
		case int64:
			v := r[c.By]
			if p, ok := v.(*int64); ok && p != nil {
				v = *p
			}
			if v == k {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

func TestTransactionsArePossible(t *testing.T) {
	t.Parallel()
	maps, err := models.Mappings()
	if err != nil {
		t.Fatal(err)
	}
	past := small(9)
	past.Users, past.Products = 130, 30
	l := newLedger(t)
	h := history(t, past)
	for _, p := range h.Products(0, past.Products) {
		l.insert(maps, models.TableProducts, &p)
	}
	for b := h.Next(500); b != nil; b = h.Next(500) {
		for i := range b.Users {
			l.insert(maps, models.TableUsers, &b.Users[i])
		}
		for i := range b.Inventory {
			l.insert(maps, models.TableInventoryItems, &b.Inventory[i])
		}
		for i := range b.Orders {
			l.insert(maps, models.TableOrders, &b.Orders[i])
		}
		for i := range b.Items {
			l.insert(maps, models.TableOrderItems, &b.Items[i])
		}
		for i := range b.Events {
			l.insert(maps, models.TableEvents, &b.Events[i])
		}
	}
	s := open(t, all(shop.Mix{.4, .35, .25}), past)
	ops := map[string]int{}
	for i := range 4000 {
		tx := s.Next(start.Add(time.Duration(i)*time.Second), -1)
		ops[tx.Op]++
		for j := range tx.Changes {
			c := &tx.Changes[j]
			if c.Kind == shop.Insert {
				l.insert(maps, c.Table, c.Row)
				continue
			}
			ids := l.matching(c)
			if len(ids) != c.Rows || len(ids) == 0 {
				t.Fatalf("%s: %s of %s by %s=%v meets %d rows, not %d", tx.Op, c.Kind, c.Table, c.By, c.Key, len(ids), c.Rows)
			}
			for _, id := range ids {
				if c.Kind == shop.Delete {
					delete(l.table(c.Table), id)
					continue
				}
				r := l.table(c.Table)[id]
				for _, set := range c.Set {
					if next, ok := set.Value.(models.OrderStatus); ok {
						was := models.OrderStatus(r["status"].(string))
						if !was.MayBecome(next) {
							t.Fatalf("%s: %s becomes %s", tx.Op, was, next)
						}
						r["status"] = string(next)
						continue
					}
					if _, ok := r[set.Name]; !ok {
						t.Fatalf("%s: %s has no column %s", tx.Op, c.Table, set.Name)
					}
					r[set.Name] = set.Value
				}
			}
		}
		l.checkKeys(tx.Op)
	}
	for _, op := range strings.Fields("sign-up visit purchase restock ship deliver cancel return profile address price expire-ghost write-off erase-account") {
		if ops[op] == 0 {
			t.Errorf("operation %s never happened in %v", op, ops)
		}
	}
	l.checkStock()
}

// checkKeys looks for orphans.
func (l *ledger) checkKeys(op string) {
	for _, fk := range [][3]string{
		{models.TableOrders, "user_id", models.TableUsers}, {models.TableOrderItems, "order_id", models.TableOrders},
		{models.TableOrderItems, "inventory_item_id", models.TableInventoryItems}, {models.TableInventoryItems, "product_id", models.TableProducts},
	} {
		for id, r := range l.table(fk[0]) {
			if l.table(fk[2])[r[fk[1]].(int64)] == nil {
				l.t.Fatalf("after %s: %s %d is an orphan: %s %v is gone", op, fk[0], id, fk[1], r[fk[1]])
			}
		}
	}
}

// checkStock holds sold pieces against the orders that hold them.
func (l *ledger) checkStock() {
	held := map[int64]bool{}
	for _, r := range l.table(models.TableOrderItems) {
		order := l.table(models.TableOrders)[r["order_id"].(int64)]
		if r["status"] != order["status"] {
			l.t.Errorf("order item %v is %v, its order %v", r["id"], r["status"], order["status"])
		}
		if models.OrderStatus(r["status"].(string)).HoldsStock() {
			held[r["inventory_item_id"].(int64)] = true
		}
	}
	for id, r := range l.table(models.TableInventoryItems) {
		sold := true
		switch v := r["sold_at"].(type) {
		case *time.Time:
			sold = v != nil
		case nil:
			sold = false
		}
		if sold != held[id] {
			l.t.Errorf("inventory item %d: sold %v, held by an order %v", id, sold, held[id])
		}
	}
}

func TestShopRepeats(t *testing.T) {
	t.Parallel()
	tell := func(run int) []shop.Transaction {
		cfg := all(shop.DefaultMix())
		cfg.Run = run
		s := open(t, cfg, small(3))
		out := make([]shop.Transaction, 300)
		for i := range out {
			out[i] = s.Next(start.Add(time.Duration(i)*time.Second), -1)
		}
		return out
	}
	if a, b := tell(1), tell(1); !reflect.DeepEqual(a, b) {
		t.Error("the same seed and run take different steps")
	}
	if a, b := tell(1), tell(2); reflect.DeepEqual(a, b) {
		t.Error("the second run repeats the first")
	}
}

func TestBudgetIsKept(t *testing.T) {
	t.Parallel()
	s := open(t, all(shop.DefaultMix()), small(4))
	for i := range 500 {
		budget := 1 + i%7
		if tx := s.Next(start, budget); tx.Size() > budget || tx.Size() == 0 {
			t.Fatalf("%s changes %d rows with a budget of %d", tx.Op, tx.Size(), budget)
		}
	}
}

func TestTimesNeverGoBack(t *testing.T) {
	t.Parallel()
	s := open(t, all(shop.DefaultMix()), small(4))
	last := s.Floor()
	for i := range 100 {
		tx := s.Next(start.Add(-time.Hour*time.Duration(i)), -1)
		if tx.At.Before(last) {
			t.Fatalf("step %d at %v, after %v", i, tx.At, last)
		}
		last = tx.At
	}
}

func TestShardsTouchOnlyTheirOwn(t *testing.T) {
	t.Parallel()
	cfg := all(shop.DefaultMix())
	cfg.From, cfg.To = 8, 16
	s := open(t, cfg, small(4))
	for i := range 500 {
		tx := s.Next(start.Add(time.Duration(i)), -1)
		if tx.Shard < 8 || tx.Shard >= 16 {
			t.Fatalf("a step in shard %d", tx.Shard)
		}
		for _, c := range tx.Changes {
			if id, ok := c.Key.(int64); ok && c.Kind != shop.Insert {
				if n, ok := shop.ShardOf(id); !ok || n != tx.Shard {
					t.Fatalf("%s in shard %d changes %s %d of shard %d", tx.Op, tx.Shard, c.Table, id, n)
				}
			}
		}
	}
}

func TestParseMix(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"insert=60,update=30,delete=10": "insert=60,update=30,delete=10",
		"delete=1, insert=3":            "insert=75,update=0,delete=25",
		"update=0.5":                    "insert=0,update=100,delete=0",
		"":                              "error", "insert": "error", "insert=-1": "error", "insert=NaN": "error", "insert=Inf": "error",
		"upsert=5": "error", "insert=0": "error", "insert=1,insert=2": "error", "insert=x": "error",
	} {
		m, err := shop.ParseMix(in)
		got := m.String()
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q is %s (%v), want %s", in, got, err, want)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	s := open(b, all(shop.DefaultMix()), small(4))
	b.ReportAllocs()
	rows := 0
	for b.Loop() {
		tx := s.Next(start, -1)
		rows += tx.Size()
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkHistory(b *testing.B) {
	b.ReportAllocs()
	cfg := small(4)
	cfg.Users = math.MaxInt32
	h := history(b, cfg)
	rows := 0
	for b.Loop() {
		rows += h.Next(100).Rows()
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}
