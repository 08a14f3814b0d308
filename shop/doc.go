// Package shop is the spring of the data's way: a pure simulation of theLook's shop. A random source and times go in,
// rows of models come out; there is no I/O and no clock of its own. History tells the past that seed loads; Shop takes
// the next steps that workload commits.
package shop
