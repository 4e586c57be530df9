package mqgrpc

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/libmq/libmq/grpc/go/mqv1"
)

// Interval between two searches for messages whose time is over.
const expiryInterval = 100 * time.Millisecond

// entry is a message on its way.
type entry struct {
	message  *mqv1.OutgoingMessage
	bytes    int
	deadline time.Time
	round    *round
	// Its error is nobody's but its publisher's.
	quiet bool
	// The batch it is part of.
	batch *batch
	// Zero if it was not sent, or is not stored for certain.
	firstSent time.Time
	settled   bool
}

// queue has the messages of one topic that wait to become batches.
type queue struct {
	topic   string
	waiting []*Result
	bytes   int
	// The time when the first of them began to wait.
	since time.Time
	// Batches without an answer.
	unanswered int
	// The broker wants nothing more before.
	notBefore time.Time
	inTurns   bool
}

// batch is sent, and answered, as a whole.
type batch struct {
	number  uint64
	queue   *queue
	results []*Result
	bytes   int
	// The broker that it was sent to without an answer: only that has its ids. Empty if it is not stored for
	// certain.
	broker string
}

func (b *batch) request() *mqv1.PublishStreamRequest {
	messages := make([]*mqv1.OutgoingMessage, len(b.results))
	for at, result := range b.results {
		messages[at] = result.message
	}
	return &mqv1.PublishStreamRequest{Correlation: b.number, Topic: b.queue.topic, Messages: messages}
}

// keep drops results that are settled, and says whether any is left.
func (b *batch) keep() bool {
	b.results = slices.DeleteFunc(b.results, func(r *Result) bool { return r.settled })
	b.bytes = 0
	for _, result := range b.results {
		b.bytes += result.bytes
	}
	return len(b.results) > 0
}

// enqueue adds a message, and says whether the task has to look.
func (p *Publisher) enqueue(q *queue, r *Result, now time.Time) bool {
	was := p.isFull(q)
	q.waiting = append(q.waiting, r)
	q.bytes += r.bytes
	if !q.inTurns {
		q.inTurns, q.since = true, now
		p.turns = append(p.turns, q)
		return true
	}
	return !was && p.isFull(q)
}

func (p *Publisher) isFull(q *queue) bool {
	return len(q.waiting) >= p.options.MaxBatchMessages || q.bytes >= p.options.MaxBatchBytes
}

// next is the next batch that is to be sent over the link now, or how long there is none for certain. The
// lock is held.
func (p *Publisher) next(now time.Time) (*batch, time.Duration) {
	pause := time.Hour
	for at := 0; at < len(p.again); at++ {
		b := p.again[at]
		if wait := b.queue.notBefore.Sub(now); wait > 0 {
			pause = min(pause, wait)
			continue
		}
		if !b.keep() {
			p.again = slices.Delete(p.again, at, at+1)
			at--
			p.forget(b)
			continue
		}
		if !p.link.fits(len(b.results), b.bytes) {
			return nil, pause
		}
		p.again = slices.Delete(p.again, at, at+1)
		return b, 0
	}
	for range len(p.turns) {
		q := p.turns[0]
		p.turns = p.turns[1:]
		wait := q.notBefore.Sub(now)
		if q.unanswered > 0 && p.flushing == 0 && !p.closed && !p.isFull(q) {
			wait = max(wait, q.since.Add(p.options.Linger).Sub(now))
		}
		var b *batch
		full := false
		if wait > 0 {
			pause = min(pause, wait)
		} else {
			b, full = p.form(q)
			q.since = now
		}
		if len(q.waiting) > 0 {
			p.turns = append(p.turns, q)
		} else {
			q.inTurns = false
			p.dropIfIdle(q)
		}
		if b != nil {
			return b, 0
		}
		if full {
			break
		}
	}
	return nil, pause
}

// form makes a batch of what waits, as far as the link's window has room; the flag says that it has not.
func (p *Publisher) form(q *queue) (*batch, bool) {
	b := &batch{number: p.batches + 1, queue: q}
	largest := p.options.MaxBatchBytes
	if limit := p.link.window.GetMaxBatchBytes(); limit > 0 {
		largest = int(min(uint64(largest), limit))
	}
	taken, full := 0, false
	for _, r := range q.waiting {
		if r.settled {
			taken++
			q.bytes -= r.bytes
			continue
		}
		if err := p.link.check(r); err != nil {
			taken++
			q.bytes -= r.bytes
			p.settle(r, Receipt{}, err)
			continue
		}
		if len(b.results) == p.options.MaxBatchMessages || len(b.results) > 0 && b.bytes+r.bytes > largest {
			break
		}
		if !p.link.fits(len(b.results)+1, b.bytes+r.bytes) {
			full = true
			break
		}
		taken++
		q.bytes -= r.bytes
		r.batch = b
		b.results = append(b.results, r)
		b.bytes += r.bytes
	}
	clear(q.waiting[:taken])
	q.waiting = q.waiting[taken:]
	if len(q.waiting) == 0 {
		q.waiting = nil
	}
	if len(b.results) == 0 {
		return nil, full
	}
	p.batches++
	q.unanswered++
	return b, false
}

// forget is called for each batch that ends.
func (p *Publisher) forget(b *batch) {
	b.queue.unanswered--
	p.dropIfIdle(b.queue)
}

// dropIfIdle keeps no queue of a topic that nothing is published to.
func (p *Publisher) dropIfIdle(q *queue) {
	if q.unanswered == 0 && len(q.waiting) == 0 && !q.inTurns {
		delete(p.topics, q.topic)
	}
}

// answered takes in what the broker says of a batch.
func (p *Publisher) answered(result *mqv1.PublishResult) {
	b := p.link.answered(result.Correlation)
	if b == nil {
		return
	}
	switch outcome := result.Result.(type) {
	case *mqv1.PublishResult_Stored:
		at := 0
		for _, offsets := range outcome.Stored.Offsets {
			for n := range offsets.Count {
				if at < len(b.results) {
					p.settle(b.results[at], Receipt{offsets.First + uint64(n), offsets.Duplicate}, nil)
					at++
				}
			}
		}
		p.forget(b)
	case *mqv1.PublishResult_Failure:
		p.refused(b, refusal(outcome.Failure))
	default:
		// Something that a later version says.
		p.fail(b, ErrUnknown)
	}
}

// refused decides on a batch that is not stored.
func (p *Publisher) refused(b *batch, refusal *Error) {
	for _, r := range b.results {
		r.firstSent = time.Time{}
	}
	b.broker = ""
	switch {
	case refusal.Code == codes.Unavailable && refusal.RetryAfter == 0:
		// It stops, or is drained: the next broker may take it.
		p.link.leaving = refusal
		p.repeat(b)
	case refusal.RetryAfter > 0:
		p.failure = refusal
		b.queue.notBefore = time.Now().Add(refusal.RetryAfter)
		p.repeat(b)
	case refusal.Code == codes.InvalidArgument && refusal.Field != "topic" && len(b.results) > 1:
		// One of them is no reason to refuse the others: each half for itself, down to that one.
		if !b.keep() {
			p.forget(b)
			return
		}
		p.batches++
		half := (len(b.results) + 1) / 2
		other := &batch{number: p.batches, queue: b.queue, results: slices.Clone(b.results[half:])}
		b.results = slices.Clone(b.results[:half])
		b.queue.unanswered++
		for _, r := range other.results {
			r.batch = other
		}
		p.repeat(b)
		p.repeat(other)
	default:
		refusal.Field = strings.TrimPrefix(refusal.Field, "messages[0].")
		p.fail(b, refusal)
	}
}

// repeat has a batch sent again.
func (p *Publisher) repeat(b *batch) {
	if !b.keep() {
		p.forget(b)
		return
	}
	at, _ := slices.BinarySearchFunc(p.again, b.number, func(other *batch, number uint64) int {
		return int(int64(other.number - number))
	})
	p.again = slices.Insert(p.again, at, b)
}

// fail gives up a batch.
func (p *Publisher) fail(b *batch, err error) {
	for _, r := range b.results {
		p.settle(r, Receipt{}, err)
	}
	p.forget(b)
}
