package shop

import (
	"time"

	"github.com/cdcseed/cdcseed/models"
)

// draft is an operation whose choices are made but which has not happened yet: it may still be dropped for the mix's or
// the budget's sake. commit changes the shop's state and writes the rows.
type draft struct {
	by     [Kinds]int
	commit func(at time.Time) []Change
}

// operations are what happens in the shop. kind says which share of the mix an operation serves, weight how often it is
// drawn among those of its kind.
var operations = []struct {
	name   string
	kind   Kind
	weight float64
	draft  func(*Shop, *shard) (draft, bool)
}{
	{"sign-up", Insert, 10, signUp},
	{"visit", Insert, 45, visit},
	{"purchase", Insert, 30, purchase},
	{"restock", Insert, 15, restock},

	{"ship", Update, 32, ship},
	{"deliver", Update, 28, deliver},
	{"cancel", Update, 10, cancelOrder},
	{"return", Update, 8, returnOrder},
	{"profile", Update, 8, profile},
	{"address", Update, 8, address},
	{"price", Update, 6, price},

	{"expire-ghost", Delete, 70, expireGhost},
	{"write-off", Delete, 26, writeOff},
	{"erase-account", Delete, 4, eraseAccount},
}

func signUp(_ *Shop, sh *shard) (draft, bool) {
	return draft{by: [Kinds]int{Insert: 1}, commit: func(at time.Time) []Change {
		u := person(sh.r, sh.ids.take(userIDs), at)
		sh.admit(&customer{
			id: u.ID, place: placeByCity[[2]string{u.City, u.PostalCode}], age: u.Age, gender: u.Gender, first: u.FirstName,
		})
		return []Change{insert(models.TableUsers, &u)}
	}}, true
}

// visit is a ghost's or a browsing customer's.
func visit(s *Shop, sh *shard) (draft, bool) {
	draw := func() *models.Product { return &s.products[sh.r.IntN(len(s.products))] }
	if sh.r.Float64() < s.cfg.GhostRatio || len(sh.customers) == 0 {
		if s.cfg.GhostRatio == 0 {
			return draft{}, false
		}
		requests := pick(sh.r, ghostVisits)(draw())
		return draft{by: [Kinds]int{Insert: len(requests)}, commit: func(at time.Time) []Change {
			rows := live(sh, from(randomPlace(sh.r), nil), requests, at)
			sh.ghosts.push(ghost{first: rows[0].ID, count: len(rows)})
			return inserts(nil, rows)
		}}, true
	}
	c := one(sh.r, sh.customers)
	requests := browsing(sh.r, draw)
	return draft{by: [Kinds]int{Insert: len(requests)}, commit: func(at time.Time) []Change {
		return inserts(nil, c.visits(sh, requests, at))
	}}, true
}

// purchase sells one to four pieces that are in stock: the order, its items, the pieces' sold_at and the visit.
func purchase(s *Shop, sh *shard) (draft, bool) {
	n := pick(sh.r, itemsPerOrder)
	if len(sh.customers) == 0 || len(sh.stock) < n {
		return draft{}, false
	}
	c := one(sh.r, sh.customers)
	// The n pieces go to the end of the stock, where commit finds them; the order of the stock means nothing.
	bought := make([]*models.Product, n)
	for i := range n {
		last := len(sh.stock) - 1 - i
		j := sh.r.IntN(last + 1)
		sh.stock[j], sh.stock[last] = sh.stock[last], sh.stock[j]
		bought[i] = &s.products[sh.stock[last].product]
	}
	requests := buying(bought)
	return draft{by: [Kinds]int{Insert: 1 + n + len(requests), Update: n}, commit: func(at time.Time) []Change {
		o := &order{id: sh.ids.take(orderIDs), buyer: c, status: models.Processing, items: make([]item, n)}
		changes := make([]Change, 0, 1+2*n+len(requests))
		changes = append(changes, insert(models.TableOrders, &models.Order{
			OrderID: o.id, UserID: c.id, Status: o.status, Gender: c.gender, CreatedAt: at, NumOfItem: int32(n), UpdatedAt: at,
		}))
		for i, p := range bought {
			u := sh.stock[len(sh.stock)-1-i]
			o.items[i] = item{piece: u.id, product: p.ID, again: !u.fresh}
			changes = append(changes,
				update(models.TableInventoryItems, "id", u.id, 1, Column{"sold_at", at}, Column{"updated_at", at}),
				insert(models.TableOrderItems, &models.OrderItem{
					ID: sh.ids.take(orderItemIDs), OrderID: o.id, UserID: c.id, ProductID: p.ID, InventoryItemID: u.id, Status: o.status,
					CreatedAt: at, SalePrice: p.RetailPrice, UpdatedAt: at,
				}))
		}
		sh.stock = sh.stock[:len(sh.stock)-n]
		c.orders = append(c.orders, o)
		sh.await(o)
		return inserts(changes, c.visits(sh, requests, at))
	}}, true
}

// restock buys one to six pieces of a product.
func restock(s *Shop, sh *shard) (draft, bool) {
	p, n := sh.r.IntN(len(s.products)), 1+sh.r.IntN(6)
	return draft{by: [Kinds]int{Insert: n}, commit: func(at time.Time) []Change {
		changes := make([]Change, n)
		for i := range changes {
			it := piece(sh.ids.take(inventoryIDs), &s.products[p], at)
			sh.stock = append(sh.stock, unit{id: it.ID, product: p, fresh: true})
			changes[i] = insert(models.TableInventoryItems, &it)
		}
		return changes
	}}, true
}

func ship(_ *Shop, sh *shard) (draft, bool) {
	return moveOn(sh, models.Processing, models.Shipped, "shipped_at", nil)
}

func deliver(_ *Shop, sh *shard) (draft, bool) {
	return moveOn(sh, models.Shipped, models.Complete, "delivered_at", nil)
}

func cancelOrder(s *Shop, sh *shard) (draft, bool) {
	return moveOn(sh, models.Processing, models.Cancelled, "", s.backInStock(sh, cancel))
}

func returnOrder(s *Shop, sh *shard) (draft, bool) {
	return moveOn(sh, models.Complete, models.Returned, "returned_at", s.backInStock(sh, sendBack))
}

// aftermath is what a station brings with it beyond the order and its items.
type aftermath struct {
	by     func(o *order) [Kinds]int
	commit func(o *order, at time.Time) []Change
}

// moveOn takes the order that has waited longest at one station to the next.
func moveOn(sh *shard, at, next models.OrderStatus, column string, also *aftermath) (draft, bool) {
	o := sh.oldest(at)
	if o == nil || !at.MayBecome(next) {
		return draft{}, false
	}
	by := [Kinds]int{Update: 1 + len(o.items)}
	if also != nil {
		for k, n := range also.by(o) {
			by[k] += n
		}
	}
	return draft{by: by, commit: func(t time.Time) []Change {
		sh.waiting[at].pop()
		o.status = next
		sh.await(o)
		changes := reachStation(o, next, column, t)
		if also != nil {
			changes = append(changes, also.commit(o, t)...)
		}
		return changes
	}}, true
}

// backInStock puts an order's pieces back and leaves the customer's event of it.
func (s *Shop) backInStock(sh *shard, event request) *aftermath {
	return &aftermath{
		by: func(o *order) [Kinds]int { return [Kinds]int{Insert: 1, Update: len(o.items)} },
		commit: func(o *order, at time.Time) []Change {
			changes := make([]Change, 0, len(o.items)+1)
			for _, it := range o.items {
				changes = append(changes, s.putBack(sh, it, at))
			}
			return inserts(changes, o.buyer.visits(sh, []request{event}, at))
		},
	}
}

// profile is a birthday or a new e-mail address.
func profile(_ *Shop, sh *shard) (draft, bool) {
	if len(sh.customers) == 0 {
		return draft{}, false
	}
	c := one(sh.r, sh.customers)
	return draft{by: [Kinds]int{Update: 1}, commit: func(at time.Time) []Change {
		set := Column{"email", email(c.first, one(sh.r, lastNames), c.id)}
		if c.age < maxAge && sh.r.IntN(2) == 0 {
			c.age++
			set = Column{"age", c.age}
		}
		return []Change{update(models.TableUsers, "id", c.id, 1, set, Column{"updated_at", at})}
	}}, true
}

// address is a move, sometimes within the same city.
func address(_ *Shop, sh *shard) (draft, bool) {
	if len(sh.customers) == 0 {
		return draft{}, false
	}
	c := one(sh.r, sh.customers)
	return draft{by: [Kinds]int{Update: 1}, commit: func(at time.Time) []Change {
		c.place = randomPlace(sh.r)
		var u models.User
		moveTo(sh.r, &u, c.place)
		return []Change{update(models.TableUsers, "id", c.id, 1,
			Column{"state", u.State}, Column{"street_address", u.StreetAddress}, Column{"postal_code", u.PostalCode},
			Column{"city", u.City}, Column{"country", u.Country}, Column{"latitude", u.Latitude}, Column{"longitude", u.Longitude},
			Column{"updated_at", at})}
	}}, true
}

// price changes what one of the shard's products costs from now on; pieces keep what they were bought for.
func price(s *Shop, sh *shard) (draft, bool) {
	if len(sh.products) == 0 {
		return draft{}, false
	}
	p := &s.products[one(sh.r, sh.products)]
	return draft{by: [Kinds]int{Update: 1}, commit: func(at time.Time) []Change {
		p.RetailPrice, p.Cost = drift(sh.r, p.RetailPrice, p.Cost)
		return []Change{update(models.TableProducts, "id", p.ID, 1,
			Column{"cost", p.Cost}, Column{"retail_price", p.RetailPrice}, Column{"updated_at", at})}
	}}, true
}

// expireGhost deletes the events of the oldest ghost visit.
func expireGhost(_ *Shop, sh *shard) (draft, bool) {
	if sh.ghosts.len() == 0 {
		return draft{}, false
	}
	g := sh.ghosts.peek()
	return draft{by: [Kinds]int{Delete: g.count}, commit: func(time.Time) []Change {
		sh.ghosts.pop()
		ids := make([]int64, g.count)
		for i := range ids {
			ids[i] = g.first + int64(i)*Stride
		}
		return []Change{erase(models.TableEvents, "id", ids, len(ids))}
	}}, true
}

// writeOff deletes a piece that never sold. A piece that came back is left: its order item refers to it.
func writeOff(_ *Shop, sh *shard) (draft, bool) {
	const tries = 4
	for range tries {
		if len(sh.stock) == 0 {
			break
		}
		i := sh.r.IntN(len(sh.stock))
		if u := sh.stock[i]; u.fresh {
			return draft{by: [Kinds]int{Delete: 1}, commit: func(time.Time) []Change {
				last := len(sh.stock) - 1
				sh.stock[i] = sh.stock[last]
				sh.stock = sh.stock[:last]
				return []Change{erase(models.TableInventoryItems, "id", u.id, 1)}
			}}, true
		}
	}
	return draft{}, false
}

// eraseAccount deletes a customer with all events, items and orders, and the pieces that were sold to them, which nobody
// could account for any more; a piece that an earlier order still refers to goes back into stock instead. Of two customers
// the one with fewer rows goes: large erasures are bursts.
func eraseAccount(s *Shop, sh *shard) (draft, bool) {
	if len(sh.customers) == 0 {
		return draft{}, false
	}
	c, other := one(sh.r, sh.customers), one(sh.r, sh.customers)
	if other.rows() < c.rows() {
		c = other
	}
	items, gone, back := c.holdings()
	by := [Kinds]int{Update: len(back), Delete: 1 + int(c.events) + len(c.orders) + items + len(gone)}
	return draft{by: by, commit: func(at time.Time) []Change {
		sh.dismiss(c)
		var changes []Change
		if c.events > 0 {
			changes = append(changes, erase(models.TableEvents, "user_id", c.id, int(c.events)))
		}
		if items > 0 {
			changes = append(changes, erase(models.TableOrderItems, "user_id", c.id, items))
		}
		if len(c.orders) > 0 {
			changes = append(changes, erase(models.TableOrders, "user_id", c.id, len(c.orders)))
		}
		if len(gone) > 0 {
			changes = append(changes, erase(models.TableInventoryItems, "id", gone, len(gone)))
		}
		for _, it := range back {
			changes = append(changes, s.putBack(sh, it, at))
		}
		return append(changes, erase(models.TableUsers, "id", c.id, 1))
	}}, true
}

// putBack makes a sold piece one in stock again.
func (s *Shop) putBack(sh *shard, it item, at time.Time) Change {
	if p, ok := s.byID[it.product]; ok {
		sh.stock = append(sh.stock, unit{id: it.piece, product: p})
	}
	return update(models.TableInventoryItems, "id", it.piece, 1, Column{"sold_at", (*time.Time)(nil)}, Column{"updated_at", at})
}

// holdings counts a customer's order items and sorts the pieces that were sold to them into those that go with them and
// those that an earlier order refers to.
func (c *customer) holdings() (items int, gone []int64, back []item) {
	for _, o := range c.orders {
		items += len(o.items)
		if !o.status.HoldsStock() {
			continue
		}
		for _, it := range o.items {
			if it.again {
				back = append(back, it)
			} else {
				gone = append(gone, it.piece)
			}
		}
	}
	return items, gone, back
}

// rows counts about what erasing the customer changes.
func (c *customer) rows() int {
	n := 1 + int(c.events) + len(c.orders)
	for _, o := range c.orders {
		n += len(o.items)
		if o.status.HoldsStock() {
			n += len(o.items)
		}
	}
	return n
}

// visits writes a customer's visit.
func (c *customer) visits(sh *shard, requests []request, at time.Time) []models.Event {
	c.events += int32(len(requests))
	return live(sh, from(c.place, &c.id), requests, at)
}

// live writes a visit that happens now: all its events carry the transaction's time, sequence_number orders them.
func live(sh *shard, who visitor, requests []request, at time.Time) []models.Event {
	return session(sh.r, &sh.ids, who, requests, func(int) time.Time { return at })
}

func inserts(changes []Change, events []models.Event) []Change {
	for i := range events {
		changes = append(changes, insert(models.TableEvents, &events[i]))
	}
	return changes
}
