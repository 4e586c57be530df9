package mqgrpc

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/libmq/libmq/grpc/go/mqv1"
)

const (
	// Parts of the message timeout: the age at which a delivery is extended, and the interval of searches for
	// such.
	touchAfter, touchEvery = 3, 6
	// Least time between two requests for a confirmation.
	confirmEvery = 50 * time.Millisecond
	// Interval in which the credit follows handlers that have not returned.
	creditEvery = time.Second
	// Tokens in one update: some 64 KiB.
	updateTokens = 2000
)

// feed is one broker's part of a consumer.
type feed struct {
	consumer *Consumer
	broker   string
	// No longer among those to consume from: its stream is not opened again.
	unwanted bool
	// The stream, if there is one.
	session *session
}

type subscribeStream = grpc.BidiStreamingClient[mqv1.SubscribeRequest, mqv1.SubscribeResponse]

// session is a stream, and what is in flight on it. The consumer's lock guards it.
type session struct {
	feed   *feed
	stream subscribeStream
	opened *mqv1.SubscribeOpened
	// Has an element when there may be something to send.
	wake chan struct{}
	// In flight, by their tokens.
	deliveries map[string]*run
	// Acknowledgements to be sent.
	finishes, releases [][]byte
	requeues           []*mqv1.SubscribeRequeue
	touches            [][]byte
	// The credit that was sent.
	credit uint32
	// Finished, by token: since the last request for a confirmation, and before it. What the broker has not
	// confirmed may come again.
	finished, asked map[string]messageKey
	// Acknowledgements were sent since the last request for a confirmation.
	unasked bool
	askedAt time.Time
	// Numbers of confirmations: the last asked for, the last that came.
	number, confirmed uint64
	// Number of the confirmation behind which nothing more comes, as the broker has no more credit; 0: not
	// asked.
	drained uint64
}

func (c *Consumer) openRequest() *mqv1.SubscribeRequest {
	o := &c.options
	open := &mqv1.SubscribeOpen{
		Topic:   c.topic,
		Channel: c.channel,
		Start:   o.Start,
		// The first response has the limit; what is left of the credit is given then.
		Credit:          &mqv1.SubscribeCredit{Messages: proto.Uint32(0), Bytes: proto.Uint64(uint64(o.MaxInFlightBytes))},
		MsgTimeoutMs:    uint64(o.MessageTimeout.Milliseconds()),
		SampleRate:      uint32(max(o.SampleRate, 0)),
		ClientName:      o.Name,
		MaxMessageBytes: proto.Uint64(uint64(max(o.MaxMessageBytes, 0))),
	}
	return &mqv1.SubscribeRequest{Request: &mqv1.SubscribeRequest_Open{Open: open}}
}

// run keeps a stream to the broker until the consumer closes, or the broker refuses for good.
func (f *feed) run() {
	c := f.consumer
	var pauses pauses
	var failed error
	for {
		err := f.serve(&pauses)
		c.mu.Lock()
		unwanted := f.unwanted
		if unwanted {
			// From here on discovery begins another.
			delete(c.feeds, f.broker)
		}
		c.mu.Unlock()
		if c.open.Err() != nil || unwanted {
			break
		}
		if isFinal(err) {
			failed = refusedBy(err)
			c.options.Logger.Error("a broker refuses a consumer", "broker", f.broker, "error", err)
			break
		}
		c.options.Logger.Info("a consumer has no connection", "broker", f.broker, "error", err)
		if !pauses.wait(c.open) {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.feeds[f.broker] == f {
		delete(c.feeds, f.broker)
	}
	if c.client.ctx.Err() != nil {
		c.end(ErrClosed)
	} else if failed != nil && len(c.feeds) == 0 {
		c.end(failed)
	}
	for _, other := range c.feeds {
		// There is more for each.
		other.look()
	}
	c.endIfDone()
}

// serve consumes over one stream until it ends.
func (f *feed) serve(pauses *pauses) error {
	c := f.consumer
	connection, err := c.client.Conn(f.broker)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	late := time.AfterFunc(openTimeout, cancel)
	// A consumer that ends does not wait for a broker that is away.
	stay := context.AfterFunc(c.open, cancel)
	defer stay()
	stream, err := mqv1.NewSubscribeServiceClient(connection).Subscribe(ctx)
	if err != nil {
		return err
	}
	// The reason comes from Recv.
	_ = stream.Send(c.openRequest())
	first, err := stream.Recv()
	if !late.Stop() && c.ctx.Err() == nil {
		return status.Errorf(codes.Unavailable, "%s did not open a stream within %v", f.broker, openTimeout)
	}
	if err != nil {
		return err
	}
	opened := first.GetOpened()
	if opened == nil {
		return errors.New("the stream does not begin with what was opened")
	}
	if !stay() {
		return c.open.Err()
	}
	pauses.reset()
	s := &session{
		feed:       f,
		stream:     stream,
		opened:     opened,
		wake:       make(chan struct{}, 1),
		deliveries: map[string]*run{},
		finished:   map[string]messageKey{},
	}
	c.mu.Lock()
	f.session = s
	c.mu.Unlock()
	broken := make(chan error, 1)
	go s.receive(broken)
	if err = s.send(ctx, broken); err == nil {
		cancel()
		err = <-broken
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f.session = nil
	s.end()
	return err
}

// look has the stream's task look for what is to be sent.
func (f *feed) look() {
	if f.session != nil {
		f.session.look()
	}
}

func (s *session) look() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// end decides on what was in flight.
func (s *session) end() {
	c, now := s.feed.consumer, time.Now()
	for _, keys := range []map[string]messageKey{s.asked, s.finished} {
		for _, key := range keys {
			c.done.add(key, now)
		}
	}
	gone := false
	for _, r := range s.deliveries {
		r.session = nil
		gone = gone || !r.working
		if !r.working {
			delete(c.runs, r.key)
		}
	}
	if !gone {
		return
	}
	kept := c.waiting[:0]
	for _, r := range c.waiting {
		if r.session != nil {
			kept = append(kept, r)
		}
	}
	clear(c.waiting[len(kept):])
	c.waiting = kept
}

func (s *session) finish(token string, key messageKey) {
	if len(s.finished) < rememberAtAll {
		s.finished[token] = key
	}
	s.finishes = append(s.finishes, []byte(token))
	s.look()
}

func (s *session) release(token string) {
	s.releases = append(s.releases, []byte(token))
	s.look()
}

func (s *session) requeue(token string, delay time.Duration) {
	delayMs := min(uint64(max(delay, 0).Milliseconds()), s.opened.MaxDelayMs)
	if last := len(s.requeues) - 1; last >= 0 && s.requeues[last].DelayMs == delayMs {
		s.requeues[last].Tokens = append(s.requeues[last].Tokens, []byte(token))
	} else {
		s.requeues = append(s.requeues, &mqv1.SubscribeRequeue{Tokens: [][]byte{[]byte(token)}, DelayMs: delayMs})
	}
	s.look()
}

// touch extends what is in flight for a while.
func (s *session) touch(now time.Time) {
	old := now.Add(-s.timeout() / touchAfter)
	for token, r := range s.deliveries {
		if r.since.Before(old) {
			r.since = now
			s.touches = append(s.touches, []byte(token))
		}
	}
}

func (s *session) timeout() time.Duration {
	return time.Duration(max(s.opened.MsgTimeoutMs, 1)) * time.Millisecond
}

// update is what is to be sent now, or nil; and after which time there may be more.
func (s *session) update(now time.Time) (*mqv1.SubscribeUpdate, time.Duration) {
	c := s.feed.consumer
	update, any := &mqv1.SubscribeUpdate{}, false
	c.trim(now)
	credit := c.credit(now, s.opened.MaxCreditMessages)
	leaving := c.closing
	if leaving {
		credit = 0
	}
	// Small changes are not worth a message.
	if differs := max(credit, s.credit) - min(credit, s.credit); differs > s.credit/4 || credit == 0 && s.credit > 0 {
		s.credit, any = credit, true
		update.Credit = &mqv1.SubscribeCredit{Messages: proto.Uint32(credit)}
	}
	acknowledged := len(s.finishes)+len(s.requeues)+len(s.releases) > 0
	update.Finish, s.finishes = take(s.finishes)
	update.Release, s.releases = take(s.releases)
	update.Touch, s.touches = take(s.touches)
	update.Requeue, s.requeues = s.requeues, nil
	s.unasked = s.unasked || acknowledged
	any = any || acknowledged || len(update.Touch) > 0
	if len(s.finishes)+len(s.releases)+len(s.touches) > 0 {
		s.look()
	}
	pause := time.Hour
	if len(c.waiting) > 0 {
		pause = creditEvery
	}
	first := leaving && s.drained == 0
	if (s.unasked || first) && s.confirmed == s.number {
		if due := s.askedAt.Add(confirmEvery).Sub(now); !leaving && due > 0 {
			pause = min(pause, due)
		} else {
			any, s.unasked, s.askedAt = true, false, now
			s.number++
			s.asked, s.finished = s.finished, map[string]messageKey{}
			update.Confirm = s.number
			if first {
				s.drained = s.number
			}
		}
	}
	if !any {
		return nil, pause
	}
	return update, pause
}

func take(tokens [][]byte) (taken, left [][]byte) {
	if len(tokens) <= updateTokens {
		return tokens, nil
	}
	return tokens[:updateTokens], tokens[updateTokens:]
}

// isDone says whether the stream can end without anything lost: nothing is in flight or to come, and all is
// confirmed.
func (s *session) isDone() bool {
	return s.drained > 0 && s.confirmed == s.number && !s.unasked && len(s.deliveries) == 0 &&
		len(s.finishes)+len(s.requeues)+len(s.releases) == 0
}

// send sends what is to be sent until the stream ends. It returns why, or nil if that is still to come from
// broken.
func (s *session) send(ctx context.Context, broken <-chan error) error {
	c := s.feed.consumer
	touching := time.NewTicker(max(s.timeout()/touchEvery, time.Millisecond))
	defer touching.Stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		c.mu.Lock()
		update, pause := s.update(time.Now())
		done := update == nil && s.isDone()
		c.mu.Unlock()
		switch {
		case update != nil:
			if s.stream.Send(&mqv1.SubscribeRequest{Request: &mqv1.SubscribeRequest_Update{Update: update}}) != nil {
				return <-broken
			}
			continue
		case done:
			s.stream.CloseSend()
			return <-broken
		}
		timer.Reset(pause)
		select {
		case <-s.wake:
		case <-timer.C:
		case <-touching.C:
			c.mu.Lock()
			s.touch(time.Now())
			c.mu.Unlock()
		case err := <-broken:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// receive takes in what comes until the stream ends.
func (s *session) receive(broken chan<- error) {
	for {
		response, err := s.stream.Recv()
		if err == io.EOF {
			err = errors.New("the broker ended the stream")
		}
		if err != nil {
			broken <- err
			return
		}
		s.take(response)
	}
}

func (s *session) take(response *mqv1.SubscribeResponse) {
	c := s.feed.consumer
	if failures := response.GetFailures().GetFailures(); len(failures) > 0 {
		c.options.Logger.Warn("acknowledgements changed nothing", "broker", s.feed.broker, "count", len(failures),
			"kind", failures[0].Kind, "reason", failures[0].Reason)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch response := response.Response.(type) {
	case *mqv1.SubscribeResponse_Batch:
		now := time.Now()
		for _, message := range response.Batch.Messages {
			c.deliver(s, message, now)
		}
	case *mqv1.SubscribeResponse_Failures:
		for _, failure := range response.Failures.Failures {
			s.failed(failure)
		}
		s.look()
	case *mqv1.SubscribeResponse_Confirmed:
		s.confirmed = response.Confirmed.Confirm
		s.asked = nil
		s.look()
	}
}

// failed takes in that an acknowledgement changed nothing.
func (s *session) failed(failure *mqv1.AckFailure) {
	c, token := s.feed.consumer, string(failure.Token)
	if r := s.deliveries[token]; r != nil {
		delete(s.deliveries, token)
		c.lost(r)
	}
	if failure.Kind != mqv1.AckKind_ACK_KIND_FINISH {
		return
	}
	// It was done, and comes again.
	for _, keys := range []map[string]messageKey{s.asked, s.finished} {
		if key, ok := keys[token]; ok {
			delete(keys, token)
			s.again(key)
		}
	}
}

// again notes that a message that is finished is delivered again, or was meanwhile.
func (s *session) again(key messageKey) {
	c := s.feed.consumer
	r := c.runs[key]
	switch {
	case r == nil:
		c.done.add(key, time.Now())
	case !r.working:
		// It waits to be worked on once more.
		if other := r.session; other != nil {
			token := r.token
			c.lost(r)
			delete(other.deliveries, token)
			other.finish(token, key)
		}
	}
}
