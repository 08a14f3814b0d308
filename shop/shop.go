package shop

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cdcseed/cdcseed/models"
)

// Config says how the shop goes on.
type Config struct {
	Seed       uint64
	Run        int // the number of this run over the same tables; salts the random sources
	Mix        Mix
	GhostRatio float64 // share of ghosts among the visits that buy nothing, 0 to 1
	From, To   int     // the shards that this process owns: From ≤ shard < To
}

// Shop is the living shop: what each shard must know to take its next step without asking the database. Its memory grows
// with the customers, their orders, and the unsold pieces, not with the events. It is not safe for concurrent use.
type Shop struct {
	cfg      Config
	products []models.Product // of all shards: any customer may buy any product
	byID     map[int64]int    // index in products
	shards   []*shard
	turn     int
	balance  balance
	floor    time.Time
}

// shard is one of the parts that the shop is divided into.
type shard struct {
	n         int
	r         *rand.Rand
	ids       idSource
	customers []*customer
	byID      map[int64]*customer
	orders    map[int64]*order // needed while loading; nil afterwards
	waiting   map[models.OrderStatus]*queue[*order]
	stock     []unit
	ghosts    queue[ghost]
	products  []int // indices of the products whose prices this shard sets
}

type customer struct {
	id      int64
	place   int // index in places
	at      int // index in shard.customers
	age     int32
	events  int32
	gender  models.Gender
	first   string
	orders  []*order
	removed bool
}

type order struct {
	id     int64
	buyer  *customer
	status models.OrderStatus
	items  []item
}

type item struct {
	piece   int64
	product int64
	again   bool // the piece had come back from an earlier order, whose item still refers to it
}

// unit is a piece in stock. fresh means that no order item refers to it, so that it may be written off.
type unit struct {
	id      int64
	product int // index in Shop.products
	fresh   bool
}

// ghost is a ghost's visit: count events with ids from first on, a Stride apart.
type ghost struct {
	first int64
	count int
}

// New makes an empty shop; the Add methods fill it with what the tables hold, then comes Open.
func New(cfg Config) (*Shop, error) {
	if cfg.From < 0 || cfg.To > Shards || cfg.From >= cfg.To {
		return nil, fmt.Errorf("shop: shards %d to %d are no range within 0 to %d", cfg.From, cfg.To, Shards)
	}
	if !(cfg.GhostRatio >= 0 && cfg.GhostRatio <= 1) {
		return nil, fmt.Errorf("shop: ghost ratio %v is not within 0 and 1", cfg.GhostRatio)
	}
	s := &Shop{cfg: cfg, byID: map[int64]int{}, balance: balance{mix: cfg.Mix}}
	for n := cfg.From; n < cfg.To; n++ {
		s.shards = append(s.shards, &shard{
			n: n, r: source(cfg.Seed, streamShard, uint64(cfg.Run), uint64(n)), ids: idSource{shard: n},
			byID: map[int64]*customer{}, orders: map[int64]*order{},
			waiting: map[models.OrderStatus]*queue[*order]{models.Processing: {}, models.Shipped: {}, models.Complete: {}},
		})
	}
	return s, nil
}

// owned returns the shard of an id if it is one of ours.
func (s *Shop) owned(id int64) *shard {
	if n, ok := ShardOf(id); ok && n >= s.cfg.From && n < s.cfg.To {
		return s.shards[n-s.cfg.From]
	}
	return nil
}

// Seen tells the shop a time that a row carries, so that none of its own rows is older.
func (s *Shop) Seen(t time.Time) {
	if t.After(s.floor) {
		s.floor = t
	}
}

// Floor is the latest time seen: the earliest that Next accepts.
func (s *Shop) Floor() time.Time { return s.floor }

// AddProduct adds a product of any shard.
func (s *Shop) AddProduct(p models.Product) {
	s.byID[p.ID] = len(s.products)
	if sh := s.owned(p.ID); sh != nil {
		sh.products = append(sh.products, len(s.products))
	}
	s.products = append(s.products, p)
}

// AddUser adds a customer of a shard of ours, whose visits have left so many events; others are ignored.
func (s *Shop) AddUser(u *models.User, events int) {
	sh := s.owned(u.ID)
	if sh == nil {
		return
	}
	sh.ids.seen(userIDs, u.ID)
	p, ok := placeByCity[[2]string{u.City, u.PostalCode}]
	if !ok {
		p = int(u.ID % int64(len(places))) // moved by hand to a place unknown here: visits come from somewhere else
	}
	sh.admit(&customer{id: u.ID, place: p, age: u.Age, gender: u.Gender, first: u.FirstName, events: int32(events)})
}

// AddOrder adds an order of a customer added before; others are ignored.
func (s *Shop) AddOrder(id, userID int64, status models.OrderStatus) {
	sh := s.owned(id)
	if sh == nil {
		return
	}
	sh.ids.seen(orderIDs, id)
	if c := sh.byID[userID]; c != nil {
		o := &order{id: id, buyer: c, status: status}
		c.orders = append(c.orders, o)
		sh.orders[id] = o
		sh.await(o)
	}
}

// AddOrderItem adds an item of an order added before; others are ignored. again tells whether more than one order item
// refers to the piece.
func (s *Shop) AddOrderItem(id, orderID, pieceID, productID int64, again bool) {
	sh := s.owned(id)
	if sh == nil {
		return
	}
	sh.ids.seen(orderItemIDs, id)
	if o := sh.orders[orderID]; o != nil {
		o.items = append(o.items, item{piece: pieceID, product: productID, again: again})
	}
}

// AddPiece adds an inventory item. referenced tells whether an order item refers to it.
func (s *Shop) AddPiece(id, productID int64, sold, referenced bool) {
	sh := s.owned(id)
	if sh == nil {
		return
	}
	sh.ids.seen(inventoryIDs, id)
	if p, ok := s.byID[productID]; ok && !sold {
		sh.stock = append(sh.stock, unit{id: id, product: p, fresh: !referenced})
	}
}

// AddGhost adds a ghost's visit: its lowest and highest event id and their number. Ids that are not evenly spaced, because
// somebody deleted some by hand, are left alone.
func (s *Shop) AddGhost(first, last int64, count int) {
	sh := s.owned(first)
	if sh == nil {
		return
	}
	sh.ids.seen(eventIDs, last)
	if last-first == int64(count-1)*Stride {
		sh.ghosts.push(ghost{first: first, count: count})
	}
}

// SeenEvent tells the highest event id of a shard.
func (s *Shop) SeenEvent(id int64) {
	if sh := s.owned(id); sh != nil {
		sh.ids.seen(eventIDs, id)
	}
}

// Open ends the loading. A shop without products cannot open.
func (s *Shop) Open() error {
	if len(s.products) == 0 {
		return errors.New("shop: the products table is empty; a shop needs something to sell")
	}
	for _, sh := range s.shards {
		sh.orders = nil
	}
	return nil
}

func (sh *shard) admit(c *customer) {
	c.at = len(sh.customers)
	sh.customers = append(sh.customers, c)
	sh.byID[c.id] = c
}

func (sh *shard) dismiss(c *customer) {
	last := sh.customers[len(sh.customers)-1]
	sh.customers[c.at], last.at = last, c.at
	sh.customers = sh.customers[:len(sh.customers)-1]
	delete(sh.byID, c.id)
	c.removed = true
}

// await puts an order into the queue of those that stand where it stands; final stations have none.
func (sh *shard) await(o *order) {
	if q := sh.waiting[o.status]; q != nil {
		q.push(o)
	}
}

// oldest returns the order that has waited longest at a station, without taking it.
func (sh *shard) oldest(at models.OrderStatus) *order {
	q := sh.waiting[at]
	for q.len() > 0 {
		if o := q.peek(); o.status == at && !o.buyer.removed && len(o.items) > 0 {
			return o
		}
		q.pop() // erased with its customer, moved on, or without items: nothing to wait for
	}
	return nil
}

// Stats counts what the shop's shards hold; for logs and tests.
type Stats struct{ Customers, Stock, Processing, Shipped, Complete, Ghosts int }

// Stats counts.
func (s *Shop) Stats() (t Stats) {
	for _, sh := range s.shards {
		t.Customers += len(sh.customers)
		t.Stock += len(sh.stock)
		t.Processing += sh.waiting[models.Processing].len()
		t.Shipped += sh.waiting[models.Shipped].len()
		t.Complete += sh.waiting[models.Complete].len()
		t.Ghosts += sh.ghosts.len()
	}
	return t
}

// Next takes the shop's next step at a time not before Floor. budget, if not negative, is the most rows that it may
// change; it is at least 1. The shards take turns; the kind furthest behind its share of the mix goes first. Next always
// finds a step: where the mix leaves none, somebody signs up (Forced).
func (s *Shop) Next(at time.Time, budget int) Transaction {
	at = at.UTC().Truncate(time.Microsecond)
	if at.Before(s.floor) {
		at = s.floor
	}
	s.floor = at
	kinds := s.balance.order()
	for range s.shards {
		sh := s.shards[s.turn]
		s.turn = (s.turn + 1) % len(s.shards)
		for _, k := range kinds {
			if t, ok := s.try(sh, k, at, budget); ok {
				return t
			}
		}
	}
	sh := s.shards[s.turn]
	s.turn = (s.turn + 1) % len(s.shards)
	d, _ := signUp(s, sh)
	return s.commit("sign-up", sh, d, at, true)
}

// try looks for an operation of a kind in a shard: drawn by weight, until one is possible.
func (s *Shop) try(sh *shard, k Kind, at time.Time, budget int) (Transaction, bool) {
	var left []choice[int]
	for i, op := range operations {
		if op.kind == k && op.weight > 0 {
			left = append(left, choice[int]{op.weight, i})
		}
	}
	for len(left) > 0 {
		i := pick(sh.r, left)
		op := &operations[i]
		if d, ok := op.draft(s, sh); ok {
			n := d.by[Insert] + d.by[Update] + d.by[Delete]
			if (budget < 0 || n <= budget) && s.balance.fits(k, d.by) {
				return s.commit(op.name, sh, d, at, false), true
			}
		}
		left = slices.DeleteFunc(left, func(c choice[int]) bool { return c.value == i })
	}
	return Transaction{}, false
}

func (s *Shop) commit(op string, sh *shard, d draft, at time.Time, forced bool) Transaction {
	s.balance.count(d.by)
	return Transaction{Op: op, Shard: sh.n, At: at, Changes: d.commit(at), Forced: forced}
}

// queue is a first-in-first-out list whose operations take constant time.
type queue[T any] struct {
	list []T
	head int
}

func (q *queue[T]) len() int { return len(q.list) - q.head }
func (q *queue[T]) push(v T) { q.list = append(q.list, v) }
func (q *queue[T]) peek() T  { return q.list[q.head] }

func (q *queue[T]) pop() T {
	var zero T
	v := q.list[q.head]
	q.list[q.head] = zero
	q.head++
	if q.head > 32 && q.head > len(q.list)/2 {
		q.list = append(q.list[:0], q.list[q.head:]...)
		q.head = 0
	}
	return v
}
