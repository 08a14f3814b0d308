package topics

import (
	"context"
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"golang.org/x/sync/errgroup"
)

// Record is a record of a topic.
type Record struct {
	Topic      string
	Partition  int32
	Offset     int64
	Time       time.Time
	Key, Value []byte
}

// Position says where to begin in each partition.
type Position int64

// Where Consume may begin.
const (
	Oldest Position = Position(sarama.OffsetOldest)
	Newest Position = Position(sarama.OffsetNewest)
)

// Consume gives the records of topics to fn, one call at a time, in order within each partition. With follow it goes on
// until ctx ends, which is no error; without, it ends at what the topics held when it began.
func (a *Admin) Consume(ctx context.Context, names []string, from Position, follow bool, fn func(Record) error) error {
	consumer, err := sarama.NewConsumerFromClient(a.client)
	if err != nil {
		return fmt.Errorf("begin to consume: %w", err)
	}
	defer func() { _ = consumer.Close() }()
	records := make(chan Record, 256)
	g, ctx := errgroup.WithContext(ctx)
	var readers errgroup.Group
	for _, name := range names {
		if err := a.client.RefreshMetadata(name); err != nil {
			return fmt.Errorf("find the partitions of topic %s: %w", name, err)
		}
		partitions, err := a.client.Partitions(name)
		if err != nil {
			return fmt.Errorf("find the partitions of topic %s: %w", name, err)
		}
		for _, p := range partitions {
			readers.Go(func() error { return a.readPartition(ctx, consumer, name, p, from, follow, records) })
		}
	}
	g.Go(func() error {
		defer close(records)
		return readers.Wait()
	})
	g.Go(func() error {
		for r := range records {
			if err := fn(r); err != nil {
				return err
			}
		}
		return nil
	})
	return g.Wait() //nolint:wrapcheck // wrapped within
}

func (a *Admin) readPartition(ctx context.Context, c sarama.Consumer, topic string, p int32, from Position, follow bool, out chan<- Record) error {
	end, err := a.client.GetOffset(topic, p, sarama.OffsetNewest)
	if err != nil {
		return fmt.Errorf("find the newest offset of topic %s, partition %d: %w", topic, p, err)
	}
	begin, err := a.client.GetOffset(topic, p, int64(from))
	if err != nil {
		return fmt.Errorf("find the offset to begin at of topic %s, partition %d: %w", topic, p, err)
	}
	if !follow && begin >= end {
		return nil
	}
	pc, err := c.ConsumePartition(topic, p, begin)
	if err != nil {
		return fmt.Errorf("consume topic %s, partition %d: %w", topic, p, err)
	}
	defer func() { _ = pc.Close() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m, ok := <-pc.Messages():
			if !ok {
				return fmt.Errorf("topic %s, partition %d: the broker ended the stream", topic, p)
			}
			select {
			case out <- Record{topic, p, m.Offset, m.Timestamp, m.Key, m.Value}:
			case <-ctx.Done():
				return nil
			}
			if !follow && m.Offset+1 >= end {
				return nil
			}
		}
	}
}
