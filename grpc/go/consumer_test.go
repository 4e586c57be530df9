package mqgrpc_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	mqgrpc "github.com/libmq/libmq/grpc/go"
	"github.com/libmq/libmq/grpc/go/mqv1"
)

// tally counts what handlers have done, by body.
type tally struct {
	mu    sync.Mutex
	times map[string]int
	// At work now, and the most there were.
	working, most int
}

// handler counts each call, and calls work.
func (y *tally) handler(work mqgrpc.Handler) mqgrpc.Handler {
	return func(ctx context.Context, message *mqgrpc.Delivery) error {
		y.mu.Lock()
		if y.times == nil {
			y.times = map[string]int{}
		}
		y.times[string(message.Body)]++
		y.working++
		y.most = max(y.most, y.working)
		y.mu.Unlock()
		defer func() {
			y.mu.Lock()
			y.working--
			y.mu.Unlock()
		}()
		return work(ctx, message)
	}
}

func (y *tally) distinct() int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return len(y.times)
}

// isOnce checks that so many messages were handled, each once.
func (y *tally) isOnce(t testing.TB, messages int) {
	t.Helper()
	y.mu.Lock()
	defer y.mu.Unlock()
	for body, times := range y.times {
		if times != 1 {
			t.Errorf("%q was handled %d times", body, times)
		}
	}
	if len(y.times) != messages {
		t.Errorf("%d of %d were handled", len(y.times), messages)
	}
}

// wait ends with the handler's context at the latest, so that a test that fails leaves nothing behind.
func wait(ctx context.Context, goOn <-chan struct{}) error {
	select {
	case <-goOn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func succeed(context.Context, *mqgrpc.Delivery) error { return nil }

func consumer(t testing.TB, c *mqgrpc.Client, handler mqgrpc.Handler, options mqgrpc.ConsumerOptions) *mqgrpc.Consumer {
	t.Helper()
	consumer, err := c.NewConsumer("t", "c", handler, options)
	must(t, err)
	return consumer
}

func publish(t testing.TB, c *mqgrpc.Client, bodies ...string) {
	t.Helper()
	p := publisher(t, c, mqgrpc.PublisherOptions{Timeout: patience})
	for _, body := range bodies {
		_, err := p.Send(soon(t), "t", text(body))
		must(t, err)
	}
	must(t, p.Close(soon(t)))
}

func numbered(from, to int) []string {
	var bodies []string
	for n := from; n < to; n++ {
		bodies = append(bodies, fmt.Sprint(n))
	}
	return bodies
}

// channel are the statistics of the channel.
func channel(t testing.TB, c *mqgrpc.Client, address string) *mqv1.ChannelStats {
	t.Helper()
	for _, channel := range statistics(t, c, address, "t").Channels {
		return channel
	}
	return &mqv1.ChannelStats{}
}

// holdsNothing waits until all of the channel is finished.
func holdsNothing(t testing.TB, c *mqgrpc.Client, address string) {
	t.Helper()
	var left *mqv1.ChannelStats
	eventually(t, func() string { return fmt.Sprintf("the channel holds nothing: %v", left) }, func() bool {
		left = channel(t, c, address)
		return left.Depth+left.InFlight+left.Deferred == 0
	})
}

func TestEachMessageIsHandledOnceAndNoMoreAtATimeThanAskedFor(t *testing.T) {
	const messages = 3000
	b := broker(t)
	c := client(t, mqgrpc.WithBrokers(b.address()))
	publish(t, c, numbered(0, messages)...)
	var y tally
	consuming := consumer(t, c, y.handler(succeed), mqgrpc.ConsumerOptions{Concurrency: 8})
	eventually(t, func() string { return "all are handled" }, func() bool { return y.distinct() == messages })
	must(t, consuming.Close(soon(t)))
	y.isOnce(t, messages)
	if y.most > 8 {
		t.Fatalf("%d at a time", y.most)
	}
	holdsNothing(t, c, b.address())
}

func TestADeliveryHasWhatWasPublished(t *testing.T) {
	b := broker(t)
	c := client(t, mqgrpc.WithBrokers(b.address()))
	p := publisher(t, c, mqgrpc.PublisherOptions{})
	headers := []mqgrpc.Header{{Name: "a", Value: []byte("1")}, {Name: "a", Value: []byte("2")}}
	receipt, err := p.Publish(soon(t), "t", mqgrpc.Message{Body: []byte("x"), Headers: headers})
	must(t, err)
	came := make(chan *mqgrpc.Delivery, 1)
	consumer(t, c, func(_ context.Context, message *mqgrpc.Delivery) error {
		came <- message
		return nil
	}, mqgrpc.ConsumerOptions{})
	got := <-came
	if string(got.Body) != "x" || len(got.Headers) != 2 || string(got.Header("a")) != "1" || got.Header("b") != nil ||
		got.Offset != receipt.Offset || got.Attempts != 1 || got.Broker != b.address() || time.Since(got.Timestamp).Abs() > time.Hour {
		t.Fatalf("%+v", got)
	}
}

func TestWhatFailsIsDeliveredAgain(t *testing.T) {
	b := broker(t)
	c := client(t, mqgrpc.WithBrokers(b.address()))
	publish(t, c, "asked", "default")
	var y tally
	consuming := consumer(t, c, y.handler(func(_ context.Context, message *mqgrpc.Delivery) error {
		switch {
		case message.Attempts == 3:
			return nil
		case string(message.Body) == "asked":
			return mqgrpc.Requeue(0, errors.New("again at once"))
		}
		return errors.New("again later")
	}), mqgrpc.ConsumerOptions{RetryDelay: func(*mqgrpc.Delivery, error) time.Duration { return time.Millisecond }})
	eventually(t, func() string { return "all are finished" }, func() bool { return channel(t, c, b.address()).Finished == 2 })
	must(t, consuming.Close(soon(t)))
	if y.times["asked"] != 3 || y.times["default"] != 3 {
		t.Fatalf("%v", y.times)
	}
	holdsNothing(t, c, b.address())
}

func TestSlowHandlersKeepWhatTheyHaveAndWhatWaits(t *testing.T) {
	const timeout = 300 * time.Millisecond
	b := broker(t)
	c := client(t, mqgrpc.WithBrokers(b.address()))
	publish(t, c, numbered(0, 100)...)
	var y tally
	began := false
	consuming := consumer(t, c, y.handler(func(_ context.Context, message *mqgrpc.Delivery) error {
		y.mu.Lock()
		slow := began
		began = len(y.times) > 80
		y.mu.Unlock()
		if slow {
			// The first were quick, so many wait behind these, and longer than the timeout.
			time.Sleep(3 * timeout)
		}
		return nil
	}), mqgrpc.ConsumerOptions{Concurrency: 4, MessageTimeout: timeout})
	eventually(t, func() string { return "all are handled" }, func() bool { return y.distinct() == 100 })
	must(t, consuming.Close(soon(t)))
	y.isOnce(t, 100)
	if got := channel(t, c, b.address()); got.TimedOut != 0 || got.Finished != 100 {
		t.Fatalf("%v", got)
	}
}

func TestAHandlerThatTakesLongerThanTheBrokerAllowsIsNotCalledAgain(t *testing.T) {
	const messages = 6
	b := broker(t, "-msg-timeout", "200ms", "-max-msg-timeout", "400ms")
	c := client(t, mqgrpc.WithBrokers(b.address()))
	publish(t, c, numbered(0, messages)...)
	var y tally
	consuming := consumer(t, c, y.handler(func(context.Context, *mqgrpc.Delivery) error {
		time.Sleep(1500 * time.Millisecond)
		return nil
	}), mqgrpc.ConsumerOptions{Concurrency: messages / 2})
	eventually(t, func() string { return "all are finished" }, func() bool { return channel(t, c, b.address()).Finished == messages })
	must(t, consuming.Close(soon(t)))
	y.isOnce(t, messages)
	if channel(t, c, b.address()).TimedOut == 0 {
		t.Fatal("nothing timed out: the test is of no use")
	}
	holdsNothing(t, c, b.address())
}

func TestKillsOfTheBrokerLoseNothingAndNothingIsHandledTwice(t *testing.T) {
	const messages, kills = 5000, 5
	b := broker(t)
	c := client(t, mqgrpc.WithBrokers(b.address()))
	var y tally
	consuming := consumer(t, c, y.handler(succeed), mqgrpc.ConsumerOptions{})
	for n := range kills {
		publish(t, c, numbered(n*messages/kills, (n+1)*messages/kills)...)
		eventually(t, func() string { return "it is in the midst" }, func() bool { return y.distinct() > n*messages/kills })
		b.kill()
		b.run()
	}
	eventually(t, func() string { return fmt.Sprintf("all are handled: %d", y.distinct()) }, func() bool { return y.distinct() == messages })
	// What was finished when the broker was killed comes again, and is finished without the handler.
	holdsNothing(t, c, b.address())
	must(t, consuming.Close(soon(t)))
	y.isOnce(t, messages)
}

func TestAHandlerAtWorkWhenTheBrokerIsKilledIsNotCalledAgain(t *testing.T) {
	b := broker(t)
	c := client(t, mqgrpc.WithBrokers(b.address()))
	publish(t, c, numbered(0, 4)...)
	var y tally
	goOn := make(chan struct{})
	consuming := consumer(t, c, y.handler(func(ctx context.Context, _ *mqgrpc.Delivery) error {
		return wait(ctx, goOn)
	}), mqgrpc.ConsumerOptions{Concurrency: 2})
	eventually(t, func() string { return "two are at work" }, func() bool { return y.distinct() == 2 })
	b.kill()
	b.run()
	// Delivered again, while they are at work.
	eventually(t, func() string { return "they come again" }, func() bool { return channel(t, c, b.address()).InFlight >= 2 })
	close(goOn)
	eventually(t, func() string { return "all are finished" }, func() bool { return channel(t, c, b.address()).Finished == 4 })
	must(t, consuming.Close(soon(t)))
	y.isOnce(t, 4)
}

func TestCloseFinishesWhatIsAtWorkAndGivesTheRestBackUnseen(t *testing.T) {
	const messages = 200
	b := broker(t)
	c := client(t, mqgrpc.WithBrokers(b.address()))
	publish(t, c, numbered(0, messages)...)
	var y tally
	var calls atomic.Int64
	goOn := make(chan struct{})
	consuming := consumer(t, c, y.handler(func(ctx context.Context, _ *mqgrpc.Delivery) error {
		if calls.Add(1) > messages/2 {
			return wait(ctx, goOn)
		}
		return nil
	}), mqgrpc.ConsumerOptions{Concurrency: 4})
	eventually(t, func() string { return "four are stuck" }, func() bool { return y.distinct() == messages/2+4 })
	closed := make(chan error, 1)
	go func() { closed <- consuming.Close(soon(t)) }()
	eventually(t, func() string { return "what waits is given back" }, func() bool { return channel(t, c, b.address()).InFlight == 4 })
	close(goOn)
	must(t, <-closed)
	y.isOnce(t, messages/2+4)
	if got := channel(t, c, b.address()); got.Finished != messages/2+4 || got.InFlight != 0 {
		t.Fatalf("%v", got)
	}
	var attempts tally
	other := consumer(t, c, y.handler(attempts.handler(func(_ context.Context, message *mqgrpc.Delivery) error {
		if message.Attempts != 1 {
			t.Errorf("%q comes as attempt %d", message.Body, message.Attempts)
		}
		return nil
	})), mqgrpc.ConsumerOptions{})
	eventually(t, func() string { return "all are handled" }, func() bool { return y.distinct() == messages })
	must(t, other.Close(soon(t)))
	y.isOnce(t, messages)
	holdsNothing(t, c, b.address())
}

func TestACloseThatIsNotWaitedForCancelsHandlersAndWhatTheyHadComesAgain(t *testing.T) {
	b := broker(t)
	c := client(t, mqgrpc.WithBrokers(b.address()))
	publish(t, c, "x")
	began, cancelled := make(chan struct{}), make(chan error, 1)
	stuck := consumer(t, c, func(ctx context.Context, _ *mqgrpc.Delivery) error {
		close(began)
		<-ctx.Done()
		cancelled <- ctx.Err()
		return ctx.Err()
	}, mqgrpc.ConsumerOptions{DrainTimeout: 50 * time.Millisecond})
	<-began
	done, cancel := context.WithCancel(soon(t))
	cancel()
	if err := stuck.Run(done); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	<-stuck.Done()
	if err := <-cancelled; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	var y tally
	other := consumer(t, c, y.handler(succeed), mqgrpc.ConsumerOptions{})
	eventually(t, func() string { return "it comes again" }, func() bool { return y.distinct() == 1 })
	must(t, other.Close(soon(t)))
}

func TestCloseDoesNotWaitForABrokerThatIsAway(t *testing.T) {
	b := broker(t)
	c := client(t, mqgrpc.WithBrokers(b.address()))
	publish(t, c, "x")
	var y tally
	consuming := consumer(t, c, y.handler(succeed), mqgrpc.ConsumerOptions{})
	eventually(t, func() string { return "it is handled" }, func() bool { return y.distinct() == 1 })
	b.kill()
	must(t, consuming.Close(soon(t)))
}

func TestARefusalForGoodEndsAConsumer(t *testing.T) {
	b := broker(t)
	c := client(t, mqgrpc.WithBrokers(b.address()))
	refused, err := c.NewConsumer("no good", "c", succeed, mqgrpc.ConsumerOptions{})
	must(t, err)
	var failed *mqgrpc.Error
	if err := refused.Run(soon(t)); !errors.As(err, &failed) || failed.Code != codes.InvalidArgument || !strings.Contains(err.Error(), "no good") {
		t.Fatal(err)
	}
}

func TestTheCreditIsNearWhatHandlersCanDo(t *testing.T) {
	b := broker(t)
	c := client(t, mqgrpc.WithBrokers(b.address()))
	publish(t, c, numbered(0, 2000)...)
	var y tally
	var calls atomic.Int64
	goOn := make(chan struct{})
	consuming := consumer(t, c, y.handler(func(ctx context.Context, _ *mqgrpc.Delivery) error {
		if calls.Add(1) > 1000 {
			return wait(ctx, goOn)
		}
		return nil
	}), mqgrpc.ConsumerOptions{Concurrency: 5})
	// Quick ones: many more than five are here.
	eventually(t, func() string { return "many are in flight" }, func() bool { return channel(t, c, b.address()).InFlight > 100 })
	// Then slow ones: what waits goes back, but for a few.
	inFlight := uint64(0)
	eventually(t, func() string { return fmt.Sprintf("few are in flight: %d", inFlight) }, func() bool {
		inFlight = channel(t, c, b.address()).InFlight
		return y.distinct() == 1005 && inFlight <= 15
	})
	close(goOn)
	eventually(t, func() string { return "all are handled" }, func() bool { return y.distinct() == 2000 })
	must(t, consuming.Close(soon(t)))
	y.isOnce(t, 2000)
	holdsNothing(t, c, b.address())
}

func TestManyBrokersAreFoundByDiscoveryAndThroughTheirRestarts(t *testing.T) {
	const each = 100
	l := lookup(t)
	announced := []string{"-lookupd-tcp-address", l.addresses["tcp"], "-broadcast-address", "127.0.0.1"}
	first, second := broker(t, announced...), broker(t, announced...)
	discovered := client(t, mqgrpc.WithDiscovery(l.address()))
	var y tally
	consuming := consumer(t, discovered, y.handler(succeed), mqgrpc.ConsumerOptions{})
	handled := func(messages int) {
		t.Helper()
		eventually(t, func() string { return fmt.Sprintf("%d of %d are handled", y.distinct(), messages) }, func() bool { return y.distinct() == messages })
	}
	to := func(b *process, from int) {
		t.Helper()
		publish(t, client(t, mqgrpc.WithBrokers(b.address())), numbered(from, from+each)...)
	}
	to(first, 0)
	handled(each)
	to(second, each)
	handled(2 * each)
	l.kill()
	first.kill()
	first.run()
	to(first, 2*each)
	// Without a lookup server: what it said last holds.
	handled(3 * each)
	l.run()
	third := broker(t, announced...)
	to(third, 3*each)
	handled(4 * each)
	must(t, consuming.Close(soon(t)))
	y.isOnce(t, 4*each)
}

func TestTheClientsCloseEndsItsConsumers(t *testing.T) {
	b := broker(t)
	c, err := mqgrpc.NewClient(mqgrpc.WithBrokers(b.address()))
	must(t, err)
	publish(t, c, "x")
	began := make(chan struct{})
	consuming := consumer(t, c, func(ctx context.Context, _ *mqgrpc.Delivery) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	}, mqgrpc.ConsumerOptions{})
	<-began
	must(t, c.Close())
	if err := consuming.Run(soon(t)); !errors.Is(err, mqgrpc.ErrClosed) {
		t.Fatal(err)
	}
	leavesNothing(t)
}

func TestWhatIsPublishedThroughKillsIsHandledOnce(t *testing.T) {
	const messages, kills = 10_000, 4
	b := broker(t)
	c := client(t, mqgrpc.WithBrokers(b.address()))
	var y tally
	consuming := consumer(t, c, y.handler(succeed), mqgrpc.ConsumerOptions{Concurrency: 4})
	published := make(chan error, 1)
	p := publisher(t, c, mqgrpc.PublisherOptions{MaxPendingBytes: 64 << 10, Timeout: patience})
	go func() {
		for _, body := range numbered(0, messages) {
			if _, err := p.Send(context.Background(), "t", text(body)); err != nil {
				published <- err
				return
			}
		}
		published <- p.Flush(context.Background())
	}()
	for n := range kills {
		eventually(t, func() string { return "it is in the midst" }, func() bool { return y.distinct() > (n+1)*messages/(kills+2) })
		b.kill()
		b.run()
	}
	must(t, <-published)
	eventually(t, func() string { return fmt.Sprintf("all are handled: %d", y.distinct()) }, func() bool { return y.distinct() == messages })
	holdsNothing(t, c, b.address())
	must(t, consuming.Close(soon(t)))
	must(t, p.Close(soon(t)))
	y.isOnce(t, messages)
}
