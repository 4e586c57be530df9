package mqgrpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/libmq/libmq/grpc/go/mqv1"
)

// link is a stream to a broker, and what was sent over it without an answer.
type link struct {
	broker          string
	window          *mqv1.PublishWindow
	sent            map[uint64]*sentBatch
	messages, bytes int
	// The reason for which the broker takes nothing more.
	leaving error
	// Ends the stream; nil if there is none.
	cancel context.CancelFunc
	// The reason for which it was ended.
	cause error
}

// sentBatch remembers what counts in the window.
type sentBatch struct {
	*batch
	messages, bytes int
}

type publishStream = grpc.BidiStreamingClient[mqv1.PublishStreamRequest, mqv1.PublishStreamResponse]

// fits says whether so much more may be sent before there is an answer.
func (l *link) fits(messages, bytes int) bool {
	if len(l.sent) == 0 {
		return true
	}
	return len(l.sent) < int(l.window.GetBatches()) &&
		l.messages+messages <= int(l.window.GetMessages()) &&
		uint64(l.bytes+bytes) <= l.window.GetBytes()
}

// check says what the broker would refuse: some of it ends a stream.
func (l *link) check(r *Result) error {
	w := l.window
	if limit := w.GetMaxMessageBytes(); limit > 0 && uint64(len(r.message.Body)) > limit {
		return invalid("body", "has %d bytes: at most %d (--max-msg-size)", len(r.message.Body), limit)
	}
	if limit := w.GetMaxBatchBytes(); limit > 0 && uint64(r.bytes) > limit {
		return invalid("body", "has %d bytes with its headers: at most %d (--max-body-size)", r.bytes, limit)
	}
	if limit := w.GetMaxDelayMs(); limit > 0 && r.message.DelayMs > limit {
		return invalid("delay_ms", "is %d: at most %d (--max-req-timeout)", r.message.DelayMs, limit)
	}
	return nil
}

// send notes that a batch is sent.
func (l *link) send(b *batch, now time.Time) {
	l.sent[b.number] = &sentBatch{b, len(b.results), b.bytes}
	l.messages += len(b.results)
	l.bytes += b.bytes
	b.broker = l.broker
	for _, r := range b.results {
		if r.firstSent.IsZero() {
			r.firstSent = now
		}
	}
}

// answered takes a batch out, or is nil if there is none of that number.
func (l *link) answered(number uint64) *batch {
	sent, ok := l.sent[number]
	if !ok {
		return nil
	}
	delete(l.sent, number)
	l.messages -= sent.messages
	l.bytes -= sent.bytes
	return sent.batch
}

// run keeps a stream as long as there is something to publish.
func (p *Publisher) run() {
	defer close(p.ended)
	defer p.cancel()
	var pauses pauses
	at := 0
	for p.hasWork() {
		err := p.serve(p.client.brokers[at], &pauses)
		if err == nil {
			break
		}
		if p.lost(err) {
			at = (at + 1) % len(p.client.brokers)
		}
		if !pauses.wait(p.ctx) {
			break
		}
	}
	p.mu.Lock()
	defer p.unlock()
	p.closed = true
	p.giveUp(ErrClosed)
	for _, waiter := range p.waiters {
		waiter.err = ErrClosed
		close(waiter.ready)
	}
	p.waiters = nil
	if p.expiry != nil {
		p.expiry.Stop()
		p.expiry = nil
	}
}

// hasWork waits until there is something to publish; false at the end.
func (p *Publisher) hasWork() bool {
	for {
		p.mu.Lock()
		pending, closed := p.pending, p.closed
		p.mu.Unlock()
		if p.ctx.Err() != nil || closed && pending == 0 {
			return false
		}
		if pending > 0 {
			return true
		}
		select {
		case <-p.wake:
		case <-p.ctx.Done():
		}
	}
}

// serve publishes over one stream until it ends: with an error, or because all is done.
func (p *Publisher) serve(broker string, pauses *pauses) error {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	stream, window, err := p.open(ctx, cancel, broker)
	if err != nil {
		return err
	}
	pauses.reset()
	p.mu.Lock()
	p.link = link{broker: broker, window: window, sent: map[uint64]*sentBatch{}, cancel: cancel}
	p.lostAt, p.failure = time.Time{}, nil
	p.mu.Unlock()
	broken := make(chan error, 1)
	go p.receive(stream, broken)
	err, received := p.feed(stream, broken)
	if !received {
		cancel()
		<-broken
	}
	return err
}

// open opens a stream and reads its window.
func (p *Publisher) open(
	ctx context.Context, cancel context.CancelFunc, broker string,
) (publishStream, *mqv1.PublishWindow, error) {
	connection, err := p.client.Conn(broker)
	if err != nil {
		return nil, nil, err
	}
	late := time.AfterFunc(openTimeout, cancel)
	stream, err := mqv1.NewPublishServiceClient(connection).PublishStream(ctx)
	if err != nil {
		return nil, nil, err
	}
	first, err := stream.Recv()
	if !late.Stop() && err != nil && p.ctx.Err() == nil {
		return nil, nil, status.Errorf(codes.Unavailable, "%s did not open a stream within %v", broker, openTimeout)
	}
	if err != nil {
		return nil, nil, err
	}
	return stream, first.GetWindow(), nil
}

// receive takes answers in until the stream ends.
func (p *Publisher) receive(stream publishStream, broken chan<- error) {
	for {
		response, err := stream.Recv()
		if err != nil {
			broken <- err
			return
		}
		p.mu.Lock()
		for _, result := range response.GetResults().GetResults() {
			p.answered(result)
		}
		p.unlock()
		runtime.Gosched()
		p.look()
	}
}

// feed sends what is to be sent. It returns why it ended, and whether that came from broken.
func (p *Publisher) feed(stream publishStream, broken <-chan error) (error, bool) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		// Publishers that an answer has woken come first, so that their next messages go together.
		runtime.Gosched()
		p.mu.Lock()
		now := time.Now()
		var b *batch
		var pause = time.Hour
		if p.link.leaving == nil {
			b, pause = p.next(now)
		}
		done := p.closed && p.pending == 0
		leaving, waiting := p.link.leaving, len(p.link.sent)
		var request *mqv1.PublishStreamRequest
		if b != nil {
			p.link.send(b, now)
			request = b.request()
		}
		p.unlock()
		switch {
		case request != nil:
			// The reason comes to receive.
			if err := stream.Send(request); err != nil {
				return <-broken, true
			}
			continue
		case done:
			stream.CloseSend()
			// However it ends: all is answered.
			<-broken
			return nil, true
		case leaving != nil && waiting == 0:
			return leaving, false
		}
		timer.Reset(pause)
		select {
		case <-p.wake:
		case <-timer.C:
		case err := <-broken:
			return err, true
		case <-p.ctx.Done():
			return p.ctx.Err(), false
		}
	}
}

// lost decides on what was sent over the stream that is gone, and says whether to try the next broker.
func (p *Publisher) lost(err error) bool {
	p.mu.Lock()
	defer p.unlock()
	if p.link.cause != nil {
		err = p.link.cause
	}
	if err == io.EOF {
		err = errors.New("the broker ended the stream")
	}
	p.failure = err
	now := time.Now()
	sent := make([]*batch, 0, len(p.link.sent))
	for _, batch := range p.link.sent {
		sent = append(sent, batch.batch)
	}
	p.link = link{}
	slices.SortFunc(sent, func(a, b *batch) int { return cmp.Compare(a.number, b.number) })
	for _, b := range sent {
		for _, r := range b.results {
			safe := r.message != nil && r.message.DedupId != "" && now.Sub(r.firstSent) < p.options.DedupWindow
			if !safe && !p.options.AtLeastOnce {
				p.settle(r, Receipt{}, fmt.Errorf("%w (%v)", ErrUnknown, err))
			}
		}
		p.repeat(b)
	}
	for _, q := range p.topics {
		q.notBefore = time.Time{}
	}
	if isFinal(err) {
		p.giveUp(refusedBy(err))
		return true
	}
	return p.mayMove(now, err)
}

// mayMove says whether another broker may be tried: not while one is to be asked again for what it has not
// answered.
func (p *Publisher) mayMove(now time.Time, err error) bool {
	isBound := func(b *batch) bool { return b.broker != "" }
	if p.options.AtLeastOnce || len(p.client.brokers) == 1 || !slices.ContainsFunc(p.again, isBound) {
		p.lostAt = time.Time{}
		return true
	}
	if p.lostAt.IsZero() {
		p.lostAt = now
	}
	if now.Sub(p.lostAt) < p.options.FailoverAfter {
		return false
	}
	for _, b := range p.again {
		if isBound(b) {
			for _, r := range b.results {
				p.settle(r, Receipt{}, fmt.Errorf("%w (%v)", ErrUnknown, err))
			}
		}
	}
	p.lostAt = time.Time{}
	return true
}

// giveUp gives everything a result.
func (p *Publisher) giveUp(err error) {
	for _, b := range p.again {
		p.expireBatch(b, time.Time{}, err)
	}
	for _, b := range p.link.sent {
		p.expireBatch(b.batch, time.Time{}, err)
	}
	for _, q := range p.turns {
		for _, r := range q.waiting {
			p.settle(r, Receipt{}, err)
		}
	}
}

// expire gives up what took too long, and looks again as long as there is anything.
func (p *Publisher) expire() {
	p.mu.Lock()
	defer p.unlock()
	now := time.Now()
	err := ErrUnreachable
	if p.failure != nil {
		err = fmt.Errorf("%w in time: %w", ErrUnreachable, p.failure)
		if refused, ok := p.failure.(*Error); ok {
			err = refused
		}
	}
	for _, q := range p.turns {
		for _, r := range q.waiting {
			if now.Before(r.deadline) {
				break
			}
			p.settle(r, Receipt{}, err)
		}
	}
	for _, b := range p.again {
		p.expireBatch(b, now, err)
	}
	for _, b := range p.link.sent {
		if p.expireBatch(b.batch, now, err) && p.link.cancel != nil {
			// A broker that does not answer for so long may never.
			p.link.cause = fmt.Errorf("%s did not answer within %v", p.link.broker, p.options.Timeout)
			p.link.cancel()
		}
	}
	if p.pending == 0 {
		p.expiry = nil
		p.look()
		return
	}
	p.expiry.Reset(expiryInterval)
}

// expireBatch settles the messages of a batch whose time is over, and says whether there were any. A zero
// time is all.
func (p *Publisher) expireBatch(b *batch, now time.Time, err error) bool {
	any := false
	for _, r := range b.results {
		if r.settled || !now.IsZero() && now.Before(r.deadline) {
			continue
		}
		any = true
		if r.firstSent.IsZero() {
			p.settle(r, Receipt{}, err)
		} else {
			p.settle(r, Receipt{}, fmt.Errorf("%w (%v)", ErrUnknown, err))
		}
	}
	return any
}
