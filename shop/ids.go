package shop

// The shop is divided by customer. A shard has its own random source, ids, order queues and stock, and is worked by one
// worker at a time.
const (
	// Shards is the number of shards.
	Shards = 64
	// Stride is the distance between two ids of one shard. It is one more than Shards: the residue 0 belongs to the
	// tables' own identity sequences, for rows that people insert by hand.
	Stride = Shards + 1
)

// NthID returns the id of the n-th row (from 0) of a table filled evenly over the shards: 1, 2, … 64, 66, …
func NthID(n int) int64 { return int64(n/Shards)*Stride + int64(n%Shards) + 1 }

// ShardOf returns the shard that an id belongs to; ok is false for ids of rows that were inserted by hand.
func ShardOf(id int64) (shard int, ok bool) {
	r := id % Stride
	return int(r - 1), id > 0 && r != 0
}

// idTable numbers the tables whose ids the shards hand out.
type idTable int

const (
	userIDs idTable = iota
	inventoryIDs
	orderIDs
	orderItemIDs
	eventIDs
	idTables
)

// idSource hands out the ids of one shard.
type idSource struct {
	shard int
	next  [idTables]int64 // how many were handed out, per table
}

func (s *idSource) take(t idTable) int64 {
	id := s.next[t]*Stride + int64(s.shard) + 1
	s.next[t]++
	return id
}

// seen makes sure that an id and those below it are not handed out again.
func (s *idSource) seen(t idTable, id int64) {
	s.next[t] = max(s.next[t], id/Stride+1)
}
