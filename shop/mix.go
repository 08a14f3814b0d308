package shop

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Mix is the share of each kind among the row changes, by Kind. The shares add up to one.
type Mix [Kinds]float64

// DefaultMix is 60 percent inserts, 30 percent updates, 10 percent deletes.
func DefaultMix() Mix { return Mix{.6, .3, .1} }

// ParseMix reads "insert=60,update=30,delete=10": parts of any sum, kinds left out count as 0.
func ParseMix(s string) (Mix, error) {
	var m Mix
	var seen [Kinds]bool
	sum := 0.
	for part := range strings.SplitSeq(s, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		k := slices.IndexFunc([]Kind{Insert, Update, Delete}, func(k Kind) bool { return k.String() == name })
		if !ok || k < 0 {
			return m, fmt.Errorf("%q is not insert=N, update=N or delete=N", part)
		}
		if seen[k] {
			return m, fmt.Errorf("%s is given twice", name)
		}
		seen[k] = true
		v, err := strconv.ParseFloat(value, 64)
		if err != nil || !(v >= 0) || math.IsInf(v, 0) {
			return m, fmt.Errorf("%s=%s: a share is a number, 0 or more", name, value)
		}
		m[k] = v
		sum += v
	}
	if sum == 0 || math.IsInf(sum, 0) {
		return m, fmt.Errorf("the shares of %q add up to %v", s, sum)
	}
	for k := range m {
		m[k] /= sum
	}
	return m, nil
}

// String renders the mix as ParseMix reads it, in percent.
func (m Mix) String() string {
	parts := make([]string, Kinds)
	for k := range m {
		parts[k] = fmt.Sprintf("%s=%s", Kind(k), strconv.FormatFloat(math.Round(m[k]*1e4)/1e2, 'f', -1, 64))
	}
	return strings.Join(parts, ",")
}

// slack is how many rows of a kind may be ahead of its share because a transaction of another kind carries them along:
// a quarter of a point over 10,000 changes.
const slack = 25

// balance steers the operations towards a mix.
type balance struct {
	mix  Mix
	done [Kinds]int
	all  int
}

// order returns the kinds that the mix wants, the one furthest behind its share first.
func (b *balance) order() []Kind {
	kinds := make([]Kind, 0, Kinds)
	for k := range b.mix {
		if b.mix[k] > 0 {
			kinds = append(kinds, Kind(k))
		}
	}
	behind := func(k Kind) float64 { return b.mix[k]*float64(b.all+1) - float64(b.done[k]) }
	slices.SortStableFunc(kinds, func(x, y Kind) int {
		switch d := behind(y) - behind(x); {
		case d > 0:
			return 1
		case d < 0:
			return -1
		}
		return 0
	})
	return kinds
}

// fits reports whether a draft of the wanted kind leaves the other kinds within their shares.
func (b *balance) fits(wanted Kind, by [Kinds]int) bool {
	n := by[Insert] + by[Update] + by[Delete]
	for k, d := range by {
		if d == 0 || Kind(k) == wanted {
			continue
		}
		if b.mix[k] == 0 || float64(b.done[k]+d) > b.mix[k]*float64(b.all+n)+slack {
			return false
		}
	}
	return true
}

func (b *balance) count(by [Kinds]int) {
	for k, d := range by {
		b.done[k] += d
		b.all += d
	}
}
