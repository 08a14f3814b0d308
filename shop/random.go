package shop

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"time"
)

// stream separates the random sources that are derived from one seed.
type stream uint64

const (
	streamUser stream = iota + 1
	streamProduct
	streamShard
)

// source derives an independent random source: equal arguments give equal sources.
func source(seed uint64, s stream, run, n uint64) *rand.Rand {
	return rand.New(rand.NewPCG(mix64(seed^mix64(uint64(s))), mix64(run<<40^n)))
}

// mix64 is the finalizer of SplitMix64 (Steele, Lea, Flood 2014): it makes neighbouring inputs unlike each other.
func mix64(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// choice is one value of a weighted table.
type choice[T any] struct {
	weight float64
	value  T
}

// pick draws from a weighted table. The weights need not add up to one.
func pick[T any](r *rand.Rand, table []choice[T]) T {
	var sum float64
	for _, c := range table {
		sum += c.weight
	}
	x := r.Float64() * sum
	for _, c := range table {
		if x -= c.weight; x < 0 {
			return c.value
		}
	}
	return table[len(table)-1].value
}

// one draws evenly from a list.
func one[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// between draws a duration from [lo, hi), in whole microseconds, Postgres's resolution.
func between(r *rand.Rand, lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo.Truncate(time.Microsecond)
	}
	return (lo + time.Duration(r.Int64N(int64(hi-lo)))).Truncate(time.Microsecond)
}

// uuid draws a random UUID (version 4) from the source given, so that sessions repeat with the seed.
func uuid(r *rand.Rand) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], r.Uint64())
	binary.BigEndian.PutUint64(b[8:], r.Uint64())
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var out [36]byte
	hex.Encode(out[0:8], b[0:4])
	hex.Encode(out[9:13], b[4:6])
	hex.Encode(out[14:18], b[6:8])
	hex.Encode(out[19:23], b[8:10])
	hex.Encode(out[24:36], b[10:16])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return string(out[:])
}
