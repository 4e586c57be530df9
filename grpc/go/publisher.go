package mqgrpc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// PublisherOptions are settings of a [Publisher]. What is zero has its default.
type PublisherOptions struct {
	// MaxPendingBytes is how many bytes of messages may have no result yet, some 256 for each message
	// included. Who wants to publish more waits. 32 MiB by default. A message that is larger is taken when
	// there is no other.
	MaxPendingBytes int
	// MaxBatchMessages and MaxBatchBytes are when a batch is full: 1,000 and 256 KiB by default.
	MaxBatchMessages, MaxBatchBytes int
	// Linger is how long a message waits for others at most, while a batch of its topic before it has no
	// answer: 5 ms by default. Where there is no such batch it is sent at once.
	Linger time.Duration
	// Timeout is the longest time for a message, reconnects included: 30 s by default.
	Timeout time.Duration
	// DedupWindow is how long after it was first sent a message may be sent again: at most the topics' window
	// of deduplication, and by default the broker's, 2 minutes. (A topic remembers 100,000 ids by default;
	// --dedup-max-ids has to be as many as are published within that time.)
	DedupWindow time.Duration
	// FailoverAfter is how long a publisher tries to reach the broker again that has not answered what was
	// sent to it, before it gives that up as ErrUnknown and goes to the next: another broker does not have
	// the ids. 5 s by default.
	FailoverAfter time.Duration
	// AtLeastOnce sends what has no answer again in any case: to another broker, without an id, outside of
	// the window. It may be stored twice.
	AtLeastOnce bool
	// WithoutIDs gives no ids to messages that have none. Without an answer they end as ErrUnknown.
	WithoutIDs bool
}

func (o PublisherOptions) withDefaults() PublisherOptions {
	positive(&o.MaxPendingBytes, 32<<20)
	positive(&o.MaxBatchMessages, 1000)
	positive(&o.MaxBatchBytes, 256<<10)
	positive(&o.Linger, 5*time.Millisecond)
	positive(&o.Timeout, 30*time.Second)
	positive(&o.DedupWindow, 2*time.Minute)
	positive(&o.FailoverAfter, 5*time.Second)
	return o
}

func positive[T int | time.Duration](value *T, otherwise T) {
	if *value <= 0 {
		*value = otherwise
	}
}

// Publisher publishes single messages over one stream, in batches that it makes itself. Its methods may be
// called at the same time. Messages of a topic are stored in the order they were taken in, but for those that
// had to be sent again.
type Publisher struct {
	client  *Client
	options PublisherOptions
	// Begins the ids that this publisher makes.
	name   string
	ctx    context.Context
	cancel context.CancelFunc
	// Has an element when the task shall look again.
	wake  chan struct{}
	ended chan struct{}

	mu sync.Mutex
	// Nothing more is taken in.
	closed bool
	topics map[string]*queue
	// Topics with messages that wait, the one whose turn it is first.
	turns []*queue
	// Batches to be sent again, in order.
	again []*batch
	link  link
	// Messages without a result, and their bytes.
	pending, bytes int
	waiters        []*waiter
	// Flushes under way, and what each waits for. The last is of messages that are taken in now.
	flushing int
	rounds   []*round
	messages uint64
	batches  uint64
	// The reason for which there is no connection.
	failure error
	// The time when the broker was lost that has not answered all.
	lostAt time.Time
	expiry *time.Timer
	// Messages that have their results since the lock was taken.
	settled []*Result
}

// Result is what becomes of a message.
type Result struct {
	entry
	done    chan struct{}
	receipt Receipt
	err     error
}

// Receipt says where a message is stored.
type Receipt struct {
	// Offset is its place in the topic.
	Offset uint64
	// Duplicate says that a message with the same id was stored there before.
	Duplicate bool
}

// waiter waits for room.
type waiter struct {
	size  int
	ready chan struct{}
	err   error
}

// round is what a flush waits for.
type round struct {
	left, failed int
	first        error
	done         chan struct{}
}

// NewPublisher makes a publisher to the client's brokers. It connects when there is something to publish.
func (c *Client) NewPublisher(options PublisherOptions) (*Publisher, error) {
	if len(c.brokers) == 0 {
		return nil, errors.New("mqgrpc: a publisher needs the address of a broker")
	}
	p := &Publisher{
		client:  c,
		options: options.withDefaults(),
		name:    rand.Text()[:16] + "-",
		wake:    make(chan struct{}, 1),
		ended:   make(chan struct{}),
		topics:  map[string]*queue{},
		rounds:  []*round{{done: make(chan struct{})}},
	}
	p.ctx, p.cancel = context.WithCancel(c.ctx)
	if err := c.begin(p.run); err != nil {
		p.cancel()
		return nil, err
	}
	return p, nil
}

// Publish publishes a message and waits until it is stored. If ctx is done first and the message was not sent
// yet, it is not published; otherwise it may be.
func (p *Publisher) Publish(ctx context.Context, topic string, message Message) (Receipt, error) {
	result, err := p.take(ctx, topic, message, true)
	if err != nil {
		return Receipt{}, err
	}
	receipt, err := result.Wait(ctx)
	if ctx.Err() != nil {
		p.withdraw(result, ctx.Err())
	}
	return receipt, err
}

// Send takes a message in, and waits for room if too much is without a result. ctx is only for that.
func (p *Publisher) Send(ctx context.Context, topic string, message Message) (*Result, error) {
	return p.take(ctx, topic, message, false)
}

// Done is closed when there is a result.
func (r *Result) Done() <-chan struct{} { return r.done }

// Wait waits for the result. The error is an [*Error] if the broker refused the message, ErrUnknown if it may
// be stored, ErrUnreachable or ErrClosed if it is not; or ctx's.
func (r *Result) Wait(ctx context.Context) (Receipt, error) {
	select {
	case <-r.done:
		return r.receipt, r.err
	default:
	}
	select {
	case <-r.done:
		return r.receipt, r.err
	case <-ctx.Done():
		return Receipt{}, ctx.Err()
	}
}

// Flush waits until everything that was taken in before has a result. The error is a [*NotStoredError] if
// some of what [Publisher.Send] has taken in since the last flush is not stored; or it is ctx's.
func (p *Publisher) Flush(ctx context.Context) error {
	p.mu.Lock()
	rounds := slices.Clone(p.rounds)
	if last := rounds[len(rounds)-1]; last.left == 0 {
		close(last.done)
		p.rounds = p.rounds[:len(p.rounds)-1]
	}
	p.rounds = append(p.rounds, &round{done: make(chan struct{})})
	p.flushing++
	p.mu.Unlock()
	p.look()
	defer func() {
		p.mu.Lock()
		p.flushing--
		p.mu.Unlock()
	}()
	var all round
	for _, round := range rounds {
		select {
		case <-round.done:
		case <-ctx.Done():
			select {
			case <-round.done:
			default:
				return ctx.Err()
			}
		}
		p.mu.Lock()
		all.add(round)
		p.mu.Unlock()
	}
	return all.err()
}

// Close takes nothing more in, waits until everything has a result, and ends the stream. When ctx is done
// what has no result gets one: ErrUnknown for what was sent, ErrClosed for what was not. The error is that of
// ctx, or as Flush's.
func (p *Publisher) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	for _, waiter := range p.waiters {
		waiter.err = ErrClosed
		close(waiter.ready)
	}
	p.waiters = nil
	p.mu.Unlock()
	p.look()
	var late error
	select {
	case <-p.ended:
	case <-ctx.Done():
		late = ctx.Err()
		p.cancel()
		<-p.ended
	}
	if late != nil {
		return late
	}
	return p.Flush(ctx)
}

// take puts a message into its topic's queue.
func (p *Publisher) take(ctx context.Context, topic string, message Message, quiet bool) (*Result, error) {
	outgoing, bytes, err := message.outgoing()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r := &Result{done: make(chan struct{})}
	r.message, r.bytes, r.quiet = outgoing, bytes, quiet
	size := bytes + messageOverhead
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.ctx.Err() != nil {
		return nil, ErrClosed
	}
	if len(p.waiters) > 0 || !p.hasRoom(size) {
		if err := p.wait(ctx, size); err != nil {
			return nil, err
		}
		if p.closed {
			p.release(size)
			return nil, ErrClosed
		}
	} else {
		p.bytes += size
	}
	if outgoing.DedupId == "" && !p.options.WithoutIDs {
		p.messages++
		outgoing.DedupId = p.name + strconv.FormatUint(p.messages, 36)
	}
	now := time.Now()
	r.deadline = now.Add(p.options.Timeout)
	r.round = p.rounds[len(p.rounds)-1]
	r.round.left++
	p.pending++
	if p.expiry == nil {
		p.expiry = time.AfterFunc(expiryInterval, p.expire)
	}
	q := p.topics[topic]
	if q == nil {
		q = &queue{topic: topic}
		p.topics[topic] = q
	}
	// A task that had nothing to do looks at no queue, not even one with messages that are settled.
	if p.enqueue(q, r, now) || p.pending == 1 {
		p.look()
	}
	return r, nil
}

func (p *Publisher) hasRoom(size int) bool {
	return p.bytes == 0 || p.bytes+size <= p.options.MaxPendingBytes
}

// wait waits for room, with the lock given up meanwhile.
func (p *Publisher) wait(ctx context.Context, size int) error {
	w := &waiter{size: size, ready: make(chan struct{})}
	p.waiters = append(p.waiters, w)
	p.mu.Unlock()
	defer p.mu.Lock()
	select {
	case <-w.ready:
		return w.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := slices.Index(p.waiters, w); at >= 0 {
		p.waiters = slices.Delete(p.waiters, at, at+1)
	} else if w.err == nil {
		p.release(w.size)
	}
	p.admit()
	return ctx.Err()
}

// release gives bytes back.
func (p *Publisher) release(size int) { p.bytes -= size }

// admit lets those in who wait for room.
func (p *Publisher) admit() {
	for len(p.waiters) > 0 && p.hasRoom(p.waiters[0].size) {
		p.bytes += p.waiters[0].size
		close(p.waiters[0].ready)
		p.waiters = p.waiters[1:]
	}
}

// settle gives a message its result, unless it has one. The lock is held.
func (p *Publisher) settle(r *Result, receipt Receipt, err error) {
	if r.settled {
		return
	}
	r.settled, r.receipt, r.err, r.message = true, receipt, err, nil
	p.pending--
	p.release(r.bytes + messageOverhead)
	if err != nil && !r.quiet {
		r.round.add(&round{failed: 1, first: err})
	}
	p.settled = append(p.settled, r)
	p.admit()
}

// unlock gives the lock up, and then wakes those whose results there are: they do not wait for the lock.
func (p *Publisher) unlock() {
	settled := p.settled
	p.settled = nil
	p.mu.Unlock()
	if len(settled) == 0 {
		return
	}
	for _, r := range settled {
		close(r.done)
	}
	// Flushes return behind the results.
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range settled {
		r.round.left--
		if r.round.left == 0 && r.round != p.rounds[len(p.rounds)-1] {
			close(r.round.done)
			p.rounds = slices.DeleteFunc(p.rounds, func(other *round) bool { return other == r.round })
		}
	}
}

// withdraw takes back what was not sent.
func (p *Publisher) withdraw(r *Result, err error) {
	p.mu.Lock()
	defer p.unlock()
	if r.firstSent.IsZero() && r.batch == nil {
		p.settle(r, Receipt{}, err)
	}
}

// look has the task look again.
func (p *Publisher) look() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (r *round) add(other *round) {
	if r.first == nil {
		r.first = other.first
	}
	r.failed += other.failed
}

func (r *round) err() error {
	if r.failed == 0 {
		return nil
	}
	return &NotStoredError{r.failed, r.first}
}

// NotStoredError is the error of a flush.
type NotStoredError struct {
	// Messages is how many are not stored, or may not be.
	Messages int
	// First is the first one's error.
	First error
}

func (n *NotStoredError) Error() string {
	return fmt.Sprintf("%d messages are not stored, the first: %v", n.Messages, n.First)
}

func (n *NotStoredError) Unwrap() error { return n.First }
