package mqgrpc_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	mqgrpc "github.com/libmq/libmq/grpc/go"
	"github.com/libmq/libmq/grpc/go/mqv1"
)

func TestPublishesAtTheSameTimeAreFewBatchesAndEachHasItsOwnOffset(t *testing.T) {
	const publishers, each = 100, 20
	b := broker(t)
	c := client(t, mqgrpc.WithBrokers(b.address()))
	p := publisher(t, c, mqgrpc.PublisherOptions{})
	var all sync.WaitGroup
	offsets := make([][]uint64, publishers)
	for n := range publishers {
		all.Go(func() {
			for m := range each {
				receipt, err := p.Publish(soon(t), "t", text(fmt.Sprintf("%d %d", n, m)))
				if err != nil {
					t.Error(err)
				}
				offsets[n] = append(offsets[n], receipt.Offset)
			}
		})
	}
	all.Wait()
	must(t, p.Close(soon(t)))
	once := map[uint64]bool{}
	for _, offsets := range offsets {
		for at, offset := range offsets {
			if once[offset] || at > 0 && offset < offsets[at-1] {
				t.Fatalf("%v: an offset comes twice, or before that of an earlier message", offsets)
			}
			once[offset] = true
		}
	}
	if got := statistics(t, c, b.address(), "t").Depth; got != publishers*each {
		t.Fatalf("%d are stored", got)
	}
}

func TestWhatComesWhileABatchIsUnansweredIsOneBatch(t *testing.T) {
	release := make(chan struct{})
	first := true
	f := fakeBroker(t, func(request *mqv1.PublishStreamRequest) (*mqv1.PublishResult, error) {
		if first {
			<-release
			first = false
		}
		return stored(request), nil
	})
	p := publisher(t, client(t, mqgrpc.WithBrokers(f.address)), mqgrpc.PublisherOptions{Linger: patience})
	var results []*mqgrpc.Result
	send := func() {
		result, err := p.Send(soon(t), "t", text("x"))
		must(t, err)
		results = append(results, result)
	}
	send()
	// It is on its way when nothing else was there.
	eventually(t, func() string { return "a first batch" }, func() bool { return p.Unanswered() == 1 })
	for range 99 {
		send()
	}
	close(release)
	must(t, p.Flush(soon(t)))
	sizes := ""
	for _, batch := range f.seen() {
		sizes += fmt.Sprint(len(batch.Messages), " ")
	}
	if sizes != "1 99 " {
		t.Fatalf("batches of %s", sizes)
	}
	for at, result := range results {
		want := uint64(100)
		if at > 0 {
			want = uint64(200 + at - 1)
		}
		if receipt, err := result.Wait(soon(t)); err != nil || receipt.Offset != want {
			t.Fatalf("the %dth: %v %v", at, receipt, err)
		}
	}
	must(t, p.Close(soon(t)))
}

func TestTheSameIDIsStoredOnce(t *testing.T) {
	b := broker(t)
	p := publisher(t, client(t, mqgrpc.WithBrokers(b.address())), mqgrpc.PublisherOptions{})
	message := mqgrpc.Message{Body: []byte("x"), ID: "a", Headers: []mqgrpc.Header{{Name: "h", Value: []byte("v")}}}
	first, err := p.Publish(soon(t), "t", message)
	must(t, err)
	second, err := p.Publish(soon(t), "t", message)
	must(t, err)
	if first.Duplicate || !second.Duplicate || first.Offset != second.Offset {
		t.Fatalf("%v, then %v", first, second)
	}
}

func TestKillsOfTheBrokerLoseNothingAndStoreNothingTwice(t *testing.T) {
	const messages, kills = 20_000, 5
	b := broker(t)
	c := client(t, mqgrpc.WithBrokers(b.address()))
	p := publisher(t, c, mqgrpc.PublisherOptions{MaxBatchMessages: 50, Timeout: patience})
	results := make([]*mqgrpc.Result, messages)
	for n := range results {
		var err error
		results[n], err = p.Send(soon(t), "t", text(fmt.Sprint(n)))
		must(t, err)
		if n%(messages/kills) == messages/kills/2 {
			// In the midst of its answers.
			<-results[n/2].Done()
			b.kill()
			b.run()
		}
	}
	must(t, p.Flush(soon(t)))
	offsets := map[uint64]bool{}
	for n, result := range results {
		receipt, err := result.Wait(soon(t))
		if err != nil || offsets[receipt.Offset] {
			t.Fatalf("the %dth: %v %v", n, receipt, err)
		}
		offsets[receipt.Offset] = true
	}
	must(t, p.Close(soon(t)))
	if got := statistics(t, c, b.address(), "t").Depth; got != messages {
		t.Fatalf("%d are stored", got)
	}
}

func TestAMessageWhoseAnswerWasLostIsSentAgainWithItsID(t *testing.T) {
	lose := true
	f := fakeBroker(t, func(request *mqv1.PublishStreamRequest) (*mqv1.PublishResult, error) {
		if lose {
			lose = false
			return nil, status.Error(codes.Unavailable, "gone")
		}
		return stored(request), nil
	})
	p := publisher(t, client(t, mqgrpc.WithBrokers(f.address)), mqgrpc.PublisherOptions{})
	_, err := p.Publish(soon(t), "t", text("x"))
	must(t, err)
	seen := f.seen()
	first, second := seen[0].Messages[0], seen[1].Messages[0]
	if len(seen) != 2 || first.DedupId == "" || first.DedupId != second.DedupId {
		t.Fatalf("sent %v", seen)
	}
}

func TestAMessageWithoutAnIDIsNotSentAgain(t *testing.T) {
	f := fakeBroker(t, func(*mqv1.PublishStreamRequest) (*mqv1.PublishResult, error) {
		return nil, status.Error(codes.Unavailable, "gone")
	})
	p := publisher(t, client(t, mqgrpc.WithBrokers(f.address)), mqgrpc.PublisherOptions{WithoutIDs: true})
	if _, err := p.Publish(soon(t), "t", text("x")); !errors.Is(err, mqgrpc.ErrUnknown) {
		t.Fatal(err)
	}
	if seen := f.seen(); len(seen) != 1 {
		t.Fatalf("sent %v", seen)
	}
}

func TestAnUnansweredMessageGoesToNoOtherBrokerAndNewOnesDo(t *testing.T) {
	hangs := func(*mqv1.PublishStreamRequest) (*mqv1.PublishResult, error) { return nil, nil }
	lost := fakeBroker(t, hangs)
	other := fakeBroker(t, func(request *mqv1.PublishStreamRequest) (*mqv1.PublishResult, error) { return stored(request), nil })
	c := client(t, mqgrpc.WithBrokers(lost.address, other.address))
	p := publisher(t, c, mqgrpc.PublisherOptions{FailoverAfter: 200 * time.Millisecond, Linger: patience})
	result, err := p.Send(soon(t), "t", text("old"))
	must(t, err)
	eventually(t, func() string { return "it is sent" }, func() bool { return len(lost.seen()) == 1 })
	lost.server.Stop()
	_, err = p.Publish(soon(t), "t", text("new"))
	must(t, err)
	if _, err := result.Wait(soon(t)); !errors.Is(err, mqgrpc.ErrUnknown) {
		t.Fatal(err)
	}
	if seen := other.seen(); len(seen) != 1 || string(seen[0].Messages[0].Body) != "new" {
		t.Fatalf("sent %v", seen)
	}
}

func TestABrokerThatLeavesHasItsMessagesTakenByTheNext(t *testing.T) {
	leaves := fakeBroker(t, func(*mqv1.PublishStreamRequest) (*mqv1.PublishResult, error) {
		return refused(&mqv1.Failure{Code: uint32(codes.Unavailable), Message: "drained"}), nil
	})
	other := fakeBroker(t, func(request *mqv1.PublishStreamRequest) (*mqv1.PublishResult, error) { return stored(request), nil })
	c := client(t, mqgrpc.WithBrokers(leaves.address, other.address))
	p := publisher(t, c, mqgrpc.PublisherOptions{FailoverAfter: patience, WithoutIDs: true})
	_, err := p.Publish(soon(t), "t", text("x"))
	must(t, err)
}

func TestOneRefusedMessageIsNoHarmToItsNeighbours(t *testing.T) {
	f := fakeBroker(t, func(request *mqv1.PublishStreamRequest) (*mqv1.PublishResult, error) {
		for _, message := range request.Messages {
			if string(message.Body) == "bad" {
				return refused(&mqv1.Failure{Code: uint32(codes.InvalidArgument), Message: "bad", Field: "messages[0].body"}), nil
			}
		}
		return stored(request), nil
	})
	p := publisher(t, client(t, mqgrpc.WithBrokers(f.address)), mqgrpc.PublisherOptions{})
	var results []*mqgrpc.Result
	for n := range 100 {
		body := "good"
		if n == 37 {
			body = "bad"
		}
		result, err := p.Send(soon(t), "t", text(body))
		must(t, err)
		results = append(results, result)
	}
	err := p.Flush(soon(t))
	if err == nil || !strings.HasPrefix(err.Error(), "1 messages are not stored, the first: InvalidArgument: body: bad") {
		t.Fatal(err)
	}
	for n, result := range results {
		if _, err := result.Wait(soon(t)); (err != nil) != (n == 37) {
			t.Fatalf("the %dth: %v", n, err)
		}
	}
}

func TestWhatABrokerWouldRefuseIsRefused(t *testing.T) {
	b := broker(t, "-max-msg-size", "1000", "-max-body-size", "10000")
	p := publisher(t, client(t, mqgrpc.WithBrokers(b.address())), mqgrpc.PublisherOptions{})
	large := strings.Repeat("x", 1001)
	for _, bad := range []struct {
		topic, field string
		message      mqgrpc.Message
	}{
		{"no good", "topic", text("x")},
		{"t", "body", text("")},
		{"t", "body", text(large)},
		{"t", "delay_ms", mqgrpc.Message{Body: []byte("x"), Delay: 2 * time.Hour}},
		{"t", "delay_ms", mqgrpc.Message{Body: []byte("x"), Delay: -1}},
		{"t", "dedup_id", mqgrpc.Message{Body: []byte("x"), ID: large}},
		{"t", "headers", mqgrpc.Message{Body: []byte("x"), Headers: []mqgrpc.Header{{Name: large}}}},
		{"t", "headers", mqgrpc.Message{Body: []byte("x"), Headers: make([]mqgrpc.Header, 129)}},
		{"t", "headers", mqgrpc.Message{Body: []byte("x"), Headers: []mqgrpc.Header{{Name: "a", Value: make([]byte, 64<<10)}}}},
	} {
		_, err := p.Publish(soon(t), bad.topic, bad.message)
		var refused *mqgrpc.Error
		if !errors.As(err, &refused) || refused.Code != codes.InvalidArgument || refused.Field != bad.field {
			t.Errorf("%s: %v", bad.field, err)
		}
	}
	_, err := p.Publish(soon(t), "t", text("x"))
	must(t, err)
}

func TestWhoPublishesMoreThanThereIsRoomForWaits(t *testing.T) {
	answering := make(chan struct{})
	f := fakeBroker(t, func(request *mqv1.PublishStreamRequest) (*mqv1.PublishResult, error) {
		<-answering
		return stored(request), nil
	})
	p := publisher(t, client(t, mqgrpc.WithBrokers(f.address)), mqgrpc.PublisherOptions{MaxPendingBytes: 10_000})
	ctx, cancel := context.WithTimeout(soon(t), 300*time.Millisecond)
	defer cancel()
	taken := 0
	for {
		if _, err := p.Send(ctx, "t", text(strings.Repeat("x", 744))); err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			break
		}
		taken++
	}
	if taken != 10 {
		t.Fatalf("%d were taken in", taken)
	}
	// Larger than all that may be pending: it comes in alone.
	later := make(chan error, 1)
	go func() {
		_, err := p.Publish(soon(t), "t", text(strings.Repeat("x", 20_000)))
		later <- err
	}()
	eventually(t, func() string { return "one waits" }, func() bool { return p.Waiting() == 1 })
	close(answering)
	must(t, <-later)
	must(t, p.Close(soon(t)))
}

func TestACancelledPublishIsNotSent(t *testing.T) {
	b := broker(t)
	c := client(t, mqgrpc.WithBrokers(b.address()))
	p := publisher(t, c, mqgrpc.PublisherOptions{})
	b.kill()
	ctx, cancel := context.WithCancel(soon(t))
	failed := make(chan error, 1)
	go func() {
		_, err := p.Publish(ctx, "t", text("cancelled"))
		failed <- err
	}()
	eventually(t, func() string { return "it is taken in" }, func() bool { return p.Pending() == 1 })
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := p.Publish(ctx, "t", text("too late")); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	b.run()
	_, err := p.Publish(soon(t), "t", text("x"))
	must(t, err)
	if got := statistics(t, c, b.address(), "t").Depth; got != 1 {
		t.Fatalf("%d are stored", got)
	}
}

func TestWithoutABrokerAMessageIsUnreachableAfterItsTimeoutAndTheNextIsPublished(t *testing.T) {
	b := broker(t)
	b.kill()
	p := publisher(t, client(t, mqgrpc.WithBrokers(b.address())), mqgrpc.PublisherOptions{Timeout: 300 * time.Millisecond})
	if _, err := p.Publish(soon(t), "t", text("x")); !errors.Is(err, mqgrpc.ErrUnreachable) {
		t.Fatal(err)
	}
	eventually(t, func() string { return "it rests" }, func() bool { return stacks("Publisher).hasWork") != "" })
	b.run()
	published := func() bool {
		_, err := p.Publish(soon(t), "t", text("x"))
		return err == nil
	}
	eventually(t, func() string { return "the next is published" }, published)
}

func TestABrokerThatDoesNotAnswerIsLeft(t *testing.T) {
	silent := fakeBroker(t, func(*mqv1.PublishStreamRequest) (*mqv1.PublishResult, error) { return nil, nil })
	other := fakeBroker(t, func(request *mqv1.PublishStreamRequest) (*mqv1.PublishResult, error) { return stored(request), nil })
	c := client(t, mqgrpc.WithBrokers(silent.address, other.address))
	p := publisher(t, c, mqgrpc.PublisherOptions{Timeout: 300 * time.Millisecond})
	if _, err := p.Publish(soon(t), "t", text("x")); !errors.Is(err, mqgrpc.ErrUnknown) {
		t.Fatal(err)
	}
	_, err := p.Publish(soon(t), "t", text("x"))
	must(t, err)
}

func TestARefusalThatNamesATimeIsTriedAgain(t *testing.T) {
	refusals := 3
	f := fakeBroker(t, func(request *mqv1.PublishStreamRequest) (*mqv1.PublishResult, error) {
		if refusals--; refusals >= 0 {
			return refused(&mqv1.Failure{Code: uint32(codes.ResourceExhausted), Reason: "FULL", RetryAfterMs: 20}), nil
		}
		return stored(request), nil
	})
	c := client(t, mqgrpc.WithBrokers(f.address))
	_, err := publisher(t, c, mqgrpc.PublisherOptions{}).Publish(soon(t), "t", text("x"))
	must(t, err)
	f.set(func() { refusals = 1 << 30 })
	short := publisher(t, c, mqgrpc.PublisherOptions{Timeout: 200 * time.Millisecond})
	var full *mqgrpc.Error
	if _, err := short.Publish(soon(t), "t", text("x")); !errors.As(err, &full) || full.Reason != "FULL" {
		t.Fatal(err)
	}
}

func TestResultsAreThereWhenAFlushReturns(t *testing.T) {
	f := fakeBroker(t, func(request *mqv1.PublishStreamRequest) (*mqv1.PublishResult, error) { return stored(request), nil })
	p := publisher(t, client(t, mqgrpc.WithBrokers(f.address)), mqgrpc.PublisherOptions{})
	for range 500 {
		result, err := p.Send(soon(t), "t", text("x"))
		must(t, err)
		must(t, p.Flush(soon(t)))
		select {
		case <-result.Done():
		default:
			t.Fatal("a flush has returned before")
		}
	}
	must(t, p.Close(soon(t)))
}

func TestCloseHasAResultForEverything(t *testing.T) {
	f := fakeBroker(t, func(*mqv1.PublishStreamRequest) (*mqv1.PublishResult, error) { return nil, nil })
	p := publisher(t, client(t, mqgrpc.WithBrokers(f.address)), mqgrpc.PublisherOptions{Linger: patience})
	sent, err := p.Send(soon(t), "t", text("sent"))
	must(t, err)
	eventually(t, func() string { return "it is sent" }, func() bool { return len(f.seen()) == 1 })
	late, cancel := context.WithTimeout(soon(t), 50*time.Millisecond)
	defer cancel()
	if err := p.Flush(late); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if err := p.Close(late); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if _, err := sent.Wait(soon(t)); !errors.Is(err, mqgrpc.ErrUnknown) {
		t.Fatal(err)
	}
	if _, err := p.Publish(soon(t), "t", text("late")); !errors.Is(err, mqgrpc.ErrClosed) {
		t.Fatal(err)
	}
}

func TestTheClientsCloseEndsItsPublishers(t *testing.T) {
	b := broker(t)
	b.kill()
	c, err := mqgrpc.NewClient(mqgrpc.WithBrokers(b.address()))
	must(t, err)
	p := publisher(t, c, mqgrpc.PublisherOptions{})
	result, err := p.Send(soon(t), "t", text("x"))
	must(t, err)
	must(t, c.Close())
	if _, err := result.Wait(soon(t)); !errors.Is(err, mqgrpc.ErrClosed) {
		t.Fatal(err)
	}
	if _, err := c.NewPublisher(mqgrpc.PublisherOptions{}); !errors.Is(err, mqgrpc.ErrClosed) {
		t.Fatal(err)
	}
	leavesNothing(t)
}
