package models

import "slices"

// Gender of a user, as theLook writes it.
type Gender string

// The two values of theLook.
const (
	Female Gender = "F"
	Male   Gender = "M"
)

// Department of the shop in which a product is sold.
type Department string

// The two values of theLook.
const (
	Women Department = "Women"
	Men   Department = "Men"
)

// EventType names what a visitor did.
type EventType string

// The values of theLook, and of ours Uncart and Return.
const (
	EventHome       EventType = "home"
	EventDepartment EventType = "department"
	EventProduct    EventType = "product"
	EventCart       EventType = "cart"
	EventPurchase   EventType = "purchase"
	EventCancel     EventType = "cancel"
	EventUncart     EventType = "uncart"
	EventReturn     EventType = "return"
)

// OrderStatus is a station in the life of an order.
type OrderStatus string

// The stations, as theLook writes them.
const (
	Processing OrderStatus = "Processing"
	Shipped    OrderStatus = "Shipped"
	Complete   OrderStatus = "Complete"
	Cancelled  OrderStatus = "Cancelled"
	Returned   OrderStatus = "Returned"
)

// transitions is the state machine of an order: for each station the ones it may go to next.
var transitions = map[OrderStatus][]OrderStatus{
	Processing: {Shipped, Cancelled},
	Shipped:    {Complete},
	Complete:   {Returned},
	Cancelled:  nil,
	Returned:   nil,
}

// OrderStatuses lists every station.
func OrderStatuses() []OrderStatus {
	return []OrderStatus{Processing, Shipped, Complete, Cancelled, Returned}
}

// MayBecome reports whether an order in station s may go to next.
func (s OrderStatus) MayBecome(next OrderStatus) bool { return slices.Contains(transitions[s], next) }

// Final reports whether nothing follows s.
func (s OrderStatus) Final() bool {
	next, known := transitions[s]
	return known && len(next) == 0
}

// HoldsStock reports whether the items of an order in station s are sold, that is, not back in stock.
func (s OrderStatus) HoldsStock() bool { return s != Cancelled && s != Returned }
