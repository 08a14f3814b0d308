// Package models is where the data's way begins and ends: the rows of theLook's tables as GORM structs, their
// enumerations, and the life of an order as one table of transitions. Every other room speaks in these types; this one
// imports none of them.
package models
