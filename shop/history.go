package shop

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cdcseed/cdcseed/models"
)

// Past is how far the history reaches back before the start time.
const Past = 5 * 365 * 24 * time.Hour

// HistoryConfig says which past to tell. Equal configurations tell the same past, row for row.
type HistoryConfig struct {
	Seed       uint64
	Start      time.Time // the end of history: nothing lies after it
	Users      int       // 0 and more
	Products   int       // 1 and more
	GhostRatio float64   // share of ghosts among the visits without a purchase, 0 to 1
}

// History tells the shop's past in batches of customers. Its memory does not grow with the number of rows.
type History struct {
	cfg  HistoryConfig
	ids  [Shards]idSource
	next int // the next user's number
	// How many rows are owed to reach the dataset's averages per user.
	inventoryOwed, eventsOwed float64
}

// NewHistory checks the configuration. It does not generate anything yet.
func NewHistory(cfg HistoryConfig) (*History, error) {
	switch {
	case cfg.Users < 0:
		return nil, fmt.Errorf("shop: %d users", cfg.Users)
	case cfg.Products < 1:
		return nil, fmt.Errorf("shop: %d products, a shop sells at least one", cfg.Products)
	case !(cfg.GhostRatio >= 0 && cfg.GhostRatio <= 1):
		return nil, fmt.Errorf("shop: ghost ratio %v is not within 0 and 1", cfg.GhostRatio)
	case cfg.Start.IsZero():
		return nil, errors.New("shop: no start time")
	}
	cfg.Start = cfg.Start.UTC().Truncate(time.Microsecond)
	h := &History{cfg: cfg}
	for s := range h.ids {
		h.ids[s].shard = s
	}
	return h, nil
}

// Centers returns the distribution centres.
func (h *History) Centers() []models.DistributionCenter {
	out := make([]models.DistributionCenter, len(warehouses))
	for i, w := range warehouses {
		out[i] = models.DistributionCenter{ID: NthID(i), Name: w.name, Latitude: w.latitude, Longitude: w.longitude}
	}
	return out
}

// Products returns the catalogue from number lo to hi (exclusive), cut to what there is.
func (h *History) Products(lo, hi int) []models.Product {
	hi = min(hi, h.cfg.Products)
	out := make([]models.Product, 0, max(0, hi-lo))
	for n := lo; n < hi; n++ {
		out = append(out, product(h.cfg.Seed, n, h.cfg.Start.Add(-Past)))
	}
	return out
}

// Batch is what happened to some customers, in tables that depend on those before them.
type Batch struct {
	Users     []models.User
	Inventory []models.InventoryItem
	Orders    []models.Order
	Items     []models.OrderItem
	Events    []models.Event
}

// Rows counts the rows of all tables.
func (b *Batch) Rows() int {
	return len(b.Users) + len(b.Inventory) + len(b.Orders) + len(b.Items) + len(b.Events)
}

// Next tells the past of the next n customers; nil when all are told.
func (h *History) Next(n int) *Batch {
	n = min(n, h.cfg.Users-h.next)
	if n <= 0 {
		return nil
	}
	b := &Batch{}
	for range n {
		h.customer(b)
		h.next++
	}
	return b
}

// EstimatedRows is about how many rows Next will tell in all; for progress.
func (h *History) EstimatedRows() int {
	return int(float64(h.cfg.Users) * (1 + inventoryPerUser + 1.25 + 1.8125 + eventsPerUser))
}

// customer tells one customer's life: the sign-up, the orders with their visits, further visits, and the stock that
// came to the shop's shelves meanwhile.
func (h *History) customer(b *Batch) {
	r := source(h.cfg.Seed, streamUser, 0, uint64(h.next))
	ids := &h.ids[h.next%Shards]
	end := h.cfg.Start
	created := end.Add(-between(r, 0, Past))
	u := person(r, ids.take(userIDs), created)
	b.Users = append(b.Users, u)
	here := placeByCity[[2]string{u.City, u.PostalCode}]

	h.inventoryOwed += inventoryPerUser
	h.eventsOwed += eventsPerUser
	items, events := len(b.Inventory), len(b.Events)
	for range pick(r, ordersPerUser) {
		h.order(b, r, ids, &u)
	}
	h.inventoryOwed -= float64(len(b.Inventory) - items)
	h.eventsOwed -= float64(len(b.Events) - events)

	for ; h.inventoryOwed >= 1; h.inventoryOwed-- {
		p := h.anyProduct(r)
		b.Inventory = append(b.Inventory, piece(ids.take(inventoryIDs), &p, end.Add(-between(r, 0, Past))))
	}
	draw := func() *models.Product { p := h.anyProduct(r); return &p }
	for h.eventsOwed >= 1 {
		var visit []models.Event
		if r.Float64() < h.cfg.GhostRatio {
			requests := pick(r, ghostVisits)(draw())
			visit = h.visit(r, ids, from(randomPlace(r), nil), requests, end.Add(-Past), end)
		} else {
			requests := browsing(r, draw)
			visit = h.visit(r, ids, from(here, &u.ID), requests, created, end)
		}
		b.Events = append(b.Events, visit...)
		h.eventsOwed -= float64(len(visit))
	}
}

func (h *History) anyProduct(r *rand.Rand) models.Product {
	return product(h.cfg.Seed, r.IntN(h.cfg.Products), h.cfg.Start.Add(-Past))
}

// visit places a visit within [from, to]: its last event anywhere in it, those before it up to 2 minutes apart.
func (h *History) visit(r *rand.Rand, ids *idSource, who visitor, requests []request, from, to time.Time) []models.Event {
	return endingAt(r, ids, who, requests, from, from.Add(between(r, 0, to.Sub(from))))
}

// endingAt tells a visit whose last event is at the time last and whose first is not before earliest.
func endingAt(r *rand.Rand, ids *idSource, who visitor, requests []request, earliest, last time.Time) []models.Event {
	step := between(r, 5*time.Second, 2*time.Minute)
	if n := len(requests) - 1; n > 0 {
		step = min(step, last.Sub(earliest)/time.Duration(n)).Truncate(time.Microsecond)
	}
	return session(r, ids, who, requests, func(i int) time.Time {
		return last.Add(-step * time.Duration(len(requests)-1-i))
	})
}

// order tells one order. Its station is drawn first and the times are fitted into the customer's life afterwards, so
// that the shares of the stations do not depend on how long ago a customer signed up.
func (h *History) order(b *Batch, r *rand.Rand, ids *idSource, u *models.User) {
	status := pick(r, historyStatus)
	toShip, toDeliver, toReturn := between(r, time.Hour, 72*time.Hour), between(r, 6*time.Hour, 120*time.Hour), between(r, time.Hour, 72*time.Hour)
	total := time.Duration(0)
	switch status {
	case models.Shipped:
		total = toShip
	case models.Complete:
		total = toShip + toDeliver
	case models.Returned:
		total = toShip + toDeliver + toReturn
	case models.Cancelled:
		total = toShip // a cancellation comes before the shipping would have
	case models.Processing:
	}
	lived := h.cfg.Start.Sub(u.CreatedAt)
	if total > lived {
		shrink := float64(lived) / float64(total)
		fit := func(d *time.Duration) { *d = time.Duration(float64(*d) * shrink).Truncate(time.Microsecond) }
		fit(&toShip)
		fit(&toDeliver)
		fit(&toReturn)
		fit(&total)
	}
	o := models.Order{
		OrderID: ids.take(orderIDs), UserID: u.ID, Status: status, Gender: u.Gender,
		CreatedAt: u.CreatedAt.Add(between(r, 0, lived-total)), NumOfItem: int32(pick(r, itemsPerOrder)),
	}
	o.UpdatedAt = o.CreatedAt
	reach := func(after time.Duration) *time.Time {
		t := o.UpdatedAt.Add(after)
		o.UpdatedAt = t
		return &t
	}
	switch status {
	case models.Shipped:
		o.ShippedAt = reach(toShip)
	case models.Complete:
		o.ShippedAt, o.DeliveredAt = reach(toShip), reach(toDeliver)
	case models.Returned:
		o.ShippedAt, o.DeliveredAt = reach(toShip), reach(toDeliver)
		o.ReturnedAt = reach(toReturn)
	case models.Cancelled:
		reach(toShip)
	case models.Processing:
	}

	bought := make([]*models.Product, o.NumOfItem)
	for i := range bought {
		p := h.anyProduct(r)
		bought[i] = &p
		it := piece(ids.take(inventoryIDs), &p, o.CreatedAt.Add(-between(r, time.Hour, 60*24*time.Hour)))
		if status.HoldsStock() {
			sold := o.CreatedAt
			it.SoldAt = &sold
			it.UpdatedAt = sold
		} else {
			it.UpdatedAt = o.UpdatedAt
		}
		b.Inventory = append(b.Inventory, it)
		b.Items = append(b.Items, models.OrderItem{
			ID: ids.take(orderItemIDs), OrderID: o.OrderID, UserID: u.ID, ProductID: p.ID, InventoryItemID: it.ID, Status: status,
			CreatedAt: o.CreatedAt, ShippedAt: o.ShippedAt, DeliveredAt: o.DeliveredAt, ReturnedAt: o.ReturnedAt,
			SalePrice: p.RetailPrice, UpdatedAt: o.UpdatedAt,
		})
	}
	b.Orders = append(b.Orders, o)
	who := from(placeByCity[[2]string{u.City, u.PostalCode}], &u.ID)
	b.Events = append(b.Events, endingAt(r, ids, who, buying(bought), u.CreatedAt, o.CreatedAt)...)
	switch status {
	case models.Returned:
		b.Events = append(b.Events, endingAt(r, ids, who, []request{sendBack}, o.CreatedAt, *o.ReturnedAt)...)
	case models.Cancelled:
		b.Events = append(b.Events, endingAt(r, ids, who, []request{cancel}, o.CreatedAt, o.UpdatedAt)...)
	case models.Processing, models.Shipped, models.Complete:
	}
}
