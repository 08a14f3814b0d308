package emulator

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/jackc/pglogrepl"
)

// producer writes records in order and knows up to which position of the WAL all of them are acknowledged.
type producer struct {
	async sarama.AsyncProducer
	room  chan struct{} // bounds what is not acknowledged
	done  sync.WaitGroup

	mu      sync.Mutex
	err     error
	marks   []*mark       // positions not reached yet, oldest first; the last collects
	at      pglogrepl.LSN // everything up to here is delivered
	changed *sync.Cond
}

// mark is a position that is reached when the records before it are acknowledged.
type mark struct {
	open int  // records not acknowledged yet
	set  bool // whether the position is known; the last mark's is not
	lsn  pglogrepl.LSN
}

func newProducer(brokers []string, base *sarama.Config) (*producer, error) {
	cfg := *base
	cfg.Producer.RequiredAcks = sarama.WaitForAll
	cfg.Producer.Idempotent = true
	cfg.Net.MaxOpenRequests = 1
	// A broker that is away is waited for; the slot keeps what it misses. sarama keeps a state for each retry to come.
	cfg.Producer.Retry.Max, cfg.Producer.Retry.Backoff = 1200, 250*time.Millisecond
	cfg.Producer.Return.Successes, cfg.Producer.Return.Errors = true, true
	cfg.Producer.Partitioner = sarama.NewMurmur2Partitioner // as Kafka Connect's producer does
	async, err := sarama.NewAsyncProducer(brokers, &cfg)
	if err != nil {
		return nil, fmt.Errorf("emulator: connect to Kafka: %w", err)
	}
	p := &producer{async: async, room: make(chan struct{}, inFlight), marks: []*mark{{}}}
	p.changed = sync.NewCond(&p.mu)
	p.done.Go(func() {
		for m := range async.Successes() {
			p.settle(m, nil)
		}
	})
	p.done.Go(func() {
		for e := range async.Errors() {
			p.settle(e.Msg, fmt.Errorf("emulator: write to topic %s: %w", e.Msg.Topic, e.Err))
		}
	})
	return p, nil
}

// send queues a record; it waits for room.
func (p *producer) send(ctx context.Context, topic string, key, value []byte) error {
	if err := p.failed(); err != nil {
		return err
	}
	select {
	case p.room <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	p.mu.Lock()
	m := p.marks[len(p.marks)-1]
	m.open++
	p.mu.Unlock()
	msg := &sarama.ProducerMessage{Topic: topic, Metadata: m}
	if key != nil {
		msg.Key = sarama.ByteEncoder(key)
	}
	if value != nil {
		msg.Value = sarama.ByteEncoder(value)
	}
	p.async.Input() <- msg
	return nil
}

func (p *producer) settle(msg *sarama.ProducerMessage, err error) {
	<-p.room
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		if p.err == nil {
			p.err = err
		}
	} else if m, ok := msg.Metadata.(*mark); ok {
		m.open--
		p.advance()
	}
	p.changed.Broadcast()
}

// advance moves over the marks that are reached. A record that failed leaves its mark open for good.
func (p *producer) advance() {
	for p.marks[0].set && p.marks[0].open == 0 {
		p.at = max(p.at, p.marks[0].lsn)
		p.marks = p.marks[1:]
	}
}

// reach says that the records sent so far are all that lies before a position.
func (p *producer) reach(lsn pglogrepl.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.marks[len(p.marks)-1]
	if len(p.marks) == 1 && last.open == 0 {
		p.at = max(p.at, lsn)
		return
	}
	last.set, last.lsn = true, lsn
	p.marks = append(p.marks, &mark{})
	p.advance()
}

// delivered sets the position to start from.
func (p *producer) delivered(lsn pglogrepl.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = max(p.at, lsn)
}

// position is up to where everything is acknowledged.
func (p *producer) position() pglogrepl.LSN {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at
}

func (p *producer) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// flush waits until everything sent is acknowledged, or something failed.
func (p *producer) flush(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { p.changed.Broadcast() })
	defer stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.err == nil && ctx.Err() == nil && p.pending() {
		p.changed.Wait()
	}
	if p.err != nil {
		return p.err
	}
	return context.Cause(ctx)
}

func (p *producer) pending() bool {
	for _, m := range p.marks {
		if m.open > 0 {
			return true
		}
	}
	return false
}

func (p *producer) close() error {
	p.async.AsyncClose()
	p.done.Wait()
	return p.failed()
}
