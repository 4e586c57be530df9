package mqgrpc

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/libmq/libmq/grpc/go/mqv1"
)

// Handler works on a message. If it returns nil the message is finished, and not delivered again; otherwise
// it is delivered again, after [ConsumerOptions.RetryDelay] or as [Requeue] says. ctx is done when a Close
// does not wait any longer.
//
// A message can come more than once: where the consumer ended, or lost its broker, before the finish was
// stored, and there are other consumers. A consumer does not call its handler again for a message that it has
// finished, or that is at work still.
type Handler func(ctx context.Context, message *Delivery) error

// ConsumerOptions are settings of a [Consumer]. What is zero has its default.
type ConsumerOptions struct {
	// Concurrency is how many messages are at work at the same time: 16 by default.
	Concurrency int
	// MaxInFlight is the most messages that are at work or wait for that in this process. How many do follows
	// from how long the handler takes: as many as are worked on within 100 ms. 1,000 by default. If it gets
	// slower those that wait are given back.
	MaxInFlight int
	// MaxInFlightBytes is the most bytes of bodies, from each broker: 16 MiB by default.
	MaxInFlightBytes int
	// MessageTimeout is how long a message may be in flight without a sign of life; those that wait or are at
	// work are extended by it. By default the broker's (--msg-timeout). What takes longer than the broker
	// allows in all (--max-msg-timeout) is delivered again.
	MessageTimeout time.Duration
	// RetryDelay is how long a message whose handler failed is not delivered again. By default half a second,
	// doubled with each attempt up to a minute.
	RetryDelay func(message *Delivery, err error) time.Duration
	// Start is where the channel starts if it is created now; nil: at what no channel has been given yet.
	Start *mqv1.StartPosition
	// SampleRate is the percentage of the messages to be delivered; zero: all.
	SampleRate int
	// Name is shown in statistics and the broker's log.
	Name string
	// MaxMessageBytes is the largest message, body and headers, that is delivered here; zero: any.
	MaxMessageBytes int
	// DrainTimeout is how long [Consumer.Run] waits for what is at work when its context is done: 30 s by
	// default.
	DrainTimeout time.Duration
	// Logger gets lost connections, late acknowledgements and handlers' errors; nil: nothing is logged.
	Logger *slog.Logger
}

func (o ConsumerOptions) withDefaults() ConsumerOptions {
	positive(&o.Concurrency, 16)
	positive(&o.MaxInFlight, 1000)
	o.MaxInFlight = max(o.MaxInFlight, o.Concurrency)
	positive(&o.MaxInFlightBytes, 16<<20)
	positive(&o.DrainTimeout, 30*time.Second)
	if o.RetryDelay == nil {
		o.RetryDelay = retryDelay
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func retryDelay(message *Delivery, _ error) time.Duration {
	const first, longest = 500 * time.Millisecond, time.Minute
	return min(first<<min(max(message.Attempts-1, 0), 16), longest)
}

// Requeue wraps a handler's error: the message is delivered again after delay.
func Requeue(delay time.Duration, err error) error { return &requeue{delay, err} }

type requeue struct {
	delay time.Duration
	err   error
}

func (r *requeue) Error() string { return r.err.Error() }
func (r *requeue) Unwrap() error { return r.err }

// Consumer calls a handler for the messages of a channel, from one broker or from all that have the topic,
// through their restarts.
type Consumer struct {
	client  *Client
	options ConsumerOptions
	handler Handler
	topic   string
	channel string
	// The context of streams.
	ctx    context.Context
	cancel context.CancelFunc
	// The context of discovery and of waits for brokers: done when the consumer is to end.
	open  context.Context
	leave context.CancelFunc
	// The context of handlers.
	work     context.Context
	stopWork context.CancelCauseFunc
	ended    chan struct{}

	mu sync.Mutex
	// Nothing more is begun.
	closing bool
	// Nobody waits for what is at work.
	abandoned bool
	err       error
	// Feeds by the broker's address, those of brokers that are away included.
	feeds map[string]*feed
	// Discovery tasks.
	watching int
	// Deliveries that wait, in order.
	waiting []*run
	// All that wait or are at work, and how many are at work.
	runs    map[messageKey]*run
	working int
	// Messages that are finished here, but not yet at the broker.
	done memory
	// Time that a handler takes, smoothed; zero before the first.
	took time.Duration
	// The time when the last message was begun.
	began time.Time
}

// messageKey names a message.
type messageKey struct {
	broker    string
	id        uint64
	timestamp uint64
}

// run is a delivery that waits or is at work.
type run struct {
	key      messageKey
	delivery *Delivery
	// The delivery to be acknowledged: its stream, nil after it was lost, and its token.
	session *session
	token   string
	// The time when its timeout began.
	since   time.Time
	working bool
}

// NewConsumer consumes a channel, which is created if it does not exist, and so is the topic.
func (c *Client) NewConsumer(topic, channel string, handler Handler, options ConsumerOptions) (*Consumer, error) {
	consumer := &Consumer{
		client:  c,
		options: options.withDefaults(),
		handler: handler,
		topic:   topic,
		channel: channel,
		ended:   make(chan struct{}),
		feeds:   map[string]*feed{},
		runs:    map[messageKey]*run{},
	}
	consumer.ctx, consumer.cancel = context.WithCancel(c.ctx)
	consumer.open, consumer.leave = context.WithCancel(consumer.ctx)
	consumer.work, consumer.stopWork = context.WithCancelCause(c.ctx)
	consumer.mu.Lock()
	defer consumer.mu.Unlock()
	var failed error
	if len(c.discovery) == 0 {
		failed = consumer.follow(c.brokers)
	} else {
		failed = consumer.discover()
	}
	if failed != nil {
		consumer.end(failed)
		consumer.cancel()
		return nil, failed
	}
	return consumer, nil
}

// Consume is [Client.NewConsumer] and [Consumer.Run]: it consumes a channel until ctx is done, and then ends
// in order.
func (c *Client) Consume(
	ctx context.Context, topic, channel string, handler Handler, options ConsumerOptions,
) error {
	consumer, err := c.NewConsumer(topic, channel, handler, options)
	if err != nil {
		return err
	}
	return consumer.Run(ctx)
}

// Run waits until ctx is done, and closes the consumer: it waits for what is at work, but not longer than
// DrainTimeout. It returns earlier if the consumer ends by itself. The error is as that of Close.
func (c *Consumer) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-c.ended:
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.options.DrainTimeout)
	defer cancel()
	return c.Close(drain)
}

// Done is closed when the consumer has ended: after a Close, or because no broker is left that does not
// refuse it.
func (c *Consumer) Done() <-chan struct{} { return c.ended }

// Close begins no more messages, gives back those that wait, which then count as no attempt, and waits until
// those at work are done and the brokers have stored that. When ctx is done it cancels the handlers' context
// and the streams, and returns ctx's error: what is at work is delivered again. Otherwise the error is why
// the consumer ended by itself before, or nil.
func (c *Consumer) Close(ctx context.Context) error {
	c.mu.Lock()
	c.end(nil)
	c.endIfDone()
	c.mu.Unlock()
	select {
	case <-c.ended:
	default:
		select {
		case <-c.ended:
		case <-ctx.Done():
			c.abandon(context.Cause(ctx))
			<-c.ended
			return ctx.Err()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// end begins the end: of an error, or because that was asked for. The lock is held.
func (c *Consumer) end(err error) {
	if c.closing {
		return
	}
	c.closing, c.err = true, err
	c.leave()
	for _, r := range c.waiting {
		delete(c.runs, r.key)
		r.release()
	}
	c.waiting = nil
	for _, feed := range c.feeds {
		feed.look()
	}
}

// abandon ends without waiting for what is at work.
func (c *Consumer) abandon(cause error) {
	c.stopWork(cause)
	c.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abandoned = true
	c.endIfDone()
}

// endIfDone notes the end once everything has. The lock is held.
func (c *Consumer) endIfDone() {
	if !c.closing || len(c.feeds) > 0 || c.watching > 0 {
		return
	}
	if c.working > 0 && !c.abandoned && c.client.ctx.Err() == nil {
		return
	}
	select {
	case <-c.ended:
	default:
		c.cancel()
		c.stopWork(ErrClosed)
		close(c.ended)
	}
}

// deliver takes in what a broker has sent. The lock is held.
func (c *Consumer) deliver(s *session, message *mqv1.ReceivedMessage, now time.Time) {
	key := messageKey{s.feed.broker, message.Id, message.TimestampNs}
	token := string(message.Token)
	if c.done.take(key) {
		s.finish(token, key)
		return
	}
	if r := c.runs[key]; r != nil {
		// Its delivery before is over, the work is not: what comes of it is of this one.
		r.lose()
		r.session, r.token, r.since = s, token, now
		s.deliveries[token] = r
		return
	}
	if c.closing {
		s.release(token)
		return
	}
	r := &run{key: key, delivery: delivery(s.feed.broker, message), session: s, token: token, since: now}
	c.runs[key] = r
	s.deliveries[token] = r
	c.waiting = append(c.waiting, r)
	if c.working < c.options.Concurrency {
		c.working++
		go c.worker()
	}
}

// worker works as long as something waits.
func (c *Consumer) worker() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.waiting) > 0 {
		r := c.waiting[0]
		c.waiting[0] = nil
		c.waiting = c.waiting[1:]
		r.working = true
		began := time.Now()
		c.began = began
		c.mu.Unlock()
		err := c.handler(c.work, r.delivery)
		took := time.Since(began)
		var delay time.Duration
		if err != nil {
			delay = c.delay(r.delivery, err)
			c.options.Logger.Warn("a handler failed", "topic", c.topic, "id", r.delivery.ID, "attempts", r.delivery.Attempts,
				"error", err)
		}
		c.mu.Lock()
		if c.took == 0 {
			c.took = took
		}
		c.took = max(c.took+(took-c.took)/8, 1)
		c.settle(r, err, delay)
	}
	c.working--
	for _, feed := range c.feeds {
		feed.look()
	}
	c.endIfDone()
}

func (c *Consumer) delay(message *Delivery, err error) time.Duration {
	var requeue *requeue
	if errors.As(err, &requeue) {
		return requeue.delay
	}
	return c.options.RetryDelay(message, err)
}

// settle acknowledges what was worked on.
func (c *Consumer) settle(r *run, err error, delay time.Duration) {
	delete(c.runs, r.key)
	s, token := r.session, r.token
	r.lose()
	switch {
	case err == nil && s == nil:
		// It comes again, and is finished then.
		c.done.add(r.key, time.Now())
	case err == nil:
		s.finish(token, r.key)
	case s != nil && c.work.Err() == nil:
		s.requeue(token, delay)
	}
}

// lose forgets the delivery of a run.
func (r *run) lose() {
	if r.session != nil {
		delete(r.session.deliveries, r.token)
		r.session = nil
	}
}

// release gives a delivery back that nobody looked at.
func (r *run) release() {
	if s := r.session; s != nil {
		r.lose()
		s.release(r.token)
	}
}

// lost is called for a delivery that is over without our doing: its timeout passed, or its stream ended.
func (c *Consumer) lost(r *run) {
	r.session = nil
	if r.working {
		return
	}
	// Nobody begins what is delivered again anyway.
	delete(c.runs, r.key)
	for at, other := range c.waiting {
		if other == r {
			c.waiting = append(c.waiting[:at], c.waiting[at+1:]...)
			break
		}
	}
}

// capacity is how many messages are to be here: as many as are at work, and what is worked on within a
// moment.
func (c *Consumer) capacity(now time.Time) int {
	const moment = 100 * time.Millisecond
	total, took := c.options.Concurrency, c.took
	if c.working == total {
		// Nothing was begun since, so they take that long at least.
		took = max(took, now.Sub(c.began))
	}
	if took <= 0 {
		return total
	}
	more := min(float64(moment)/float64(took)*float64(total), float64(c.options.MaxInFlight))
	return min(total+int(more), c.options.MaxInFlight)
}

// credit is how many messages each broker may have in flight here.
func (c *Consumer) credit(now time.Time, limit uint32) uint32 {
	share := (c.capacity(now) + len(c.feeds) - 1) / max(len(c.feeds), 1)
	return uint32(min(max(share, 1), int(limit)))
}

// trim gives back what came when handlers were quicker than they are: others may be. The lock is held.
func (c *Consumer) trim(now time.Time) {
	capacity := c.capacity(now)
	if len(c.waiting) <= 2*capacity {
		return
	}
	for _, r := range c.waiting[capacity:] {
		delete(c.runs, r.key)
		r.release()
	}
	clear(c.waiting[capacity:])
	c.waiting = c.waiting[:capacity]
}

// memory has keys for a while, at most so many.
type memory struct {
	since map[messageKey]time.Time
	order []messageKey
}

const (
	// A message comes again at the latest after the longest timeout that a broker allows by default, 15
	// minutes.
	rememberFor   = 20 * time.Minute
	rememberAtAll = 100_000
)

func (m *memory) add(key messageKey, now time.Time) {
	if m.since == nil {
		m.since = map[messageKey]time.Time{}
	}
	if _, ok := m.since[key]; !ok {
		m.order = append(m.order, key)
	}
	m.since[key] = now
	for len(m.order) > 0 {
		since, ok := m.since[m.order[0]]
		if ok && now.Sub(since) < rememberFor && len(m.order) <= rememberAtAll {
			return
		}
		delete(m.since, m.order[0])
		m.order = m.order[1:]
	}
}

// take removes a key, and says whether it was there.
func (m *memory) take(key messageKey) bool {
	_, ok := m.since[key]
	delete(m.since, key)
	return ok
}
