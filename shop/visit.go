package shop

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cdcseed/cdcseed/models"
)

// Action is what a visitor tries to do with a product.
type Action uint8

// The actions of e-store.
const (
	View Action = iota
	Cart
	Uncart
	Purchase
	Return
)

// actionWeights are e-store's: view 65, cart 15, uncart 5, purchase 10, return 5.
var actionWeights = []choice[Action]{{65, View}, {15, Cart}, {5, Uncart}, {10, Purchase}, {5, Return}}

// Visitor holds the life-cycle rules: a product is viewed before it goes into the cart; it leaves the cart only when it
// is in it; it is bought only from the cart, and leaves the cart then; it is returned only after it was bought. The zero
// value has seen nothing.
type Visitor struct {
	viewed, cart, bought []int64
}

// Act tries an action on a product and returns what it became: an action that breaks a rule becomes a View.
func (v *Visitor) Act(a Action, product int64) Action {
	switch {
	case a == Cart && slices.Contains(v.viewed, product) && !slices.Contains(v.cart, product):
		v.cart = append(v.cart, product)
	case a == Uncart && remove(&v.cart, product):
	case a == Purchase && remove(&v.cart, product):
		v.bought = append(v.bought, product)
	case a == Return && remove(&v.bought, product):
	default:
		if !slices.Contains(v.viewed, product) {
			v.viewed = append(v.viewed, product)
		}
		return View
	}
	return a
}

// remove takes one occurrence of a value out of a list and reports whether it was there.
func remove(list *[]int64, value int64) bool {
	i := slices.Index(*list, value)
	if i >= 0 {
		*list = slices.Delete(*list, i, i+1)
	}
	return i >= 0
}

// request is an event of a visit before it has an id and a time.
type request struct {
	kind models.EventType
	uri  string
}

func home() request { return request{models.EventHome, "/home"} }

func viewDepartment(p *models.Product) request {
	return request{models.EventDepartment, departmentURI(p)}
}
func viewProduct(p *models.Product) request { return request{models.EventProduct, productURI(p)} }

var (
	intoCart  = request{models.EventCart, "/cart"}
	outOfCart = request{models.EventUncart, "/cart"}
	checkout  = request{models.EventPurchase, "/purchase"}
	cancel    = request{models.EventCancel, "/cancel"}
	sendBack  = request{models.EventReturn, "/return"}
)

// buying is the visit that ends in buying the products given.
func buying(products []*models.Product) []request {
	out := make([]request, 0, 2+3*len(products))
	out = append(out, home())
	for _, p := range products {
		out = append(out, viewDepartment(p), viewProduct(p), intoCart)
	}
	return append(out, checkout)
}

// maxBrowse bounds the actions of one browsing visit.
const maxBrowse = 6

// browsing is the visit of a customer who buys nothing: actions by weight under the rules, among a handful of products.
// Purchases and returns are transactions of their own, so here they count as actions that break a rule.
func browsing(r *rand.Rand, draw func() *models.Product) []request {
	out := []request{home()}
	var v Visitor
	shelf := []*models.Product{draw()}
	for range 1 + r.IntN(maxBrowse) {
		p := one(r, shelf)
		a := pick(r, actionWeights)
		if a == View && slices.Contains(v.viewed, p.ID) {
			p = draw()
			shelf = append(shelf, p)
		}
		switch v.Act(a, p.ID) {
		case Cart:
			out = append(out, intoCart)
		case Uncart:
			out = append(out, outOfCart)
		default:
			if out[len(out)-1].kind == models.EventHome {
				out = append(out, viewDepartment(p))
			}
			out = append(out, viewProduct(p))
		}
	}
	return out
}

// ghostVisits are theLook's four ways of a visitor who never signs in: cancelled browsing, abandoned cart, viewed
// product, viewed department.
var ghostVisits = []choice[func(*models.Product) []request]{
	{1, func(p *models.Product) []request { return []request{viewProduct(p), intoCart, cancel} }},
	{1, func(p *models.Product) []request { return []request{viewDepartment(p), viewProduct(p), intoCart} }},
	{1, func(p *models.Product) []request { return []request{viewProduct(p)} }},
	{1, func(p *models.Product) []request { return []request{viewDepartment(p)} }},
}

// visitor is the part of an event that is the same for the whole visit.
type visitor struct {
	userID *int64
	city   string
	state  string
	postal string
}

func from(p int, userID *int64) visitor {
	at := &places[p]
	return visitor{userID: userID, city: at.city, state: at.state, postal: at.postalCode}
}

// session turns the requests of a visit into rows. at gives the time of the i-th.
func session(r *rand.Rand, ids *idSource, who visitor, requests []request, at func(i int) time.Time) []models.Event {
	id, ip, browser, traffic := uuid(r), ipAddress(r), pick(r, browsers), pick(r, eventTraffic)
	out := make([]models.Event, len(requests))
	for i, q := range requests {
		out[i] = models.Event{
			ID: ids.take(eventIDs), UserID: who.userID, SequenceNumber: int32(i + 1), SessionID: id, CreatedAt: at(i),
			IPAddress: ip, City: who.city, State: who.state, PostalCode: who.postal,
			Browser: browser, TrafficSource: traffic, URI: q.uri, EventType: q.kind,
		}
	}
	return out
}
