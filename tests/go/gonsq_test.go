package gonsq

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nsqio/go-nsq"
)

var silent = log.New(io.Discard, "", 0)

func producer(t *testing.T, address string) *nsq.Producer {
	t.Helper()
	return producerWith(t, address, nil)
}

// configure gives go-nsq's defaults with some options changed, by their own names.
func configure(t *testing.T, set map[string]any) *nsq.Config {
	t.Helper()
	config := nsq.NewConfig()
	for option, value := range set {
		must(t, config.Set(option, value))
	}
	return config
}

func producerWith(t *testing.T, address string, set map[string]any) *nsq.Producer {
	t.Helper()
	p, err := nsq.NewProducer(address, configure(t, set))
	if err != nil {
		t.Fatal(err)
	}
	p.SetLogger(silent, nsq.LogLevelError)
	t.Cleanup(p.Stop)
	return p
}

// consumer subscribes, with options as configure takes them.
func consumer(t *testing.T, address, channel string, set map[string]any, handler nsq.Handler) *nsq.Consumer {
	t.Helper()
	c, err := nsq.NewConsumer("t", channel, configure(t, set))
	if err != nil {
		t.Fatal(err)
	}
	c.SetLogger(silent, nsq.LogLevelError)
	c.AddHandler(handler)
	if err := c.ConnectToNSQD(address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Stop()
		<-c.StopChan
	})
	return c
}

// collect gives a handler that finishes, and a channel of what it was handed.
func collect() (nsq.HandlerFunc, chan *nsq.Message) {
	messages := make(chan *nsq.Message, 10_000)
	return func(m *nsq.Message) error { messages <- m; return nil }, messages
}

func next[T any](t *testing.T, from chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestPublishesArriveInOrder(t *testing.T) {
	address := startBroker(t)
	p := producer(t, address)
	must(t, p.Ping())
	must(t, p.Publish("t", []byte("one")))
	must(t, p.MultiPublish("t", [][]byte{[]byte("two"), {0, 255, '\n'}}))
	handler, messages := collect()
	consumer(t, address, "c", nil, handler)
	for _, want := range []string{"one", "two", "\x00\xff\n"} {
		m := next(t, messages)
		if string(m.Body) != want || m.Attempts != 1 {
			t.Fatalf("%q attempt %d, not %q", m.Body, m.Attempts, want)
		}
		if age := time.Since(time.Unix(0, m.Timestamp)); age < -time.Minute || age > time.Minute {
			t.Fatalf("published %v ago", age)
		}
	}
}

func TestAsyncPublishesAreAnsweredInOrder(t *testing.T) {
	const count = 5_000
	address := startBroker(t)
	p := producer(t, address)
	answers := make(chan *nsq.ProducerTransaction, count)
	for n := 0; n < count; n++ {
		must(t, p.PublishAsync("t", []byte(fmt.Sprint(n)), answers, n))
	}
	for n := 0; n < count; n++ {
		answer := next(t, answers)
		if answer.Error != nil || answer.Args[0] != n {
			t.Fatalf("answer %d: %v for %v", n, answer.Error, answer.Args)
		}
	}
	handler, messages := collect()
	consumer(t, address, "c", map[string]any{"max_in_flight": 500}, handler)
	for n := 0; n < count; n++ {
		if m := next(t, messages); string(m.Body) != fmt.Sprint(n) {
			t.Fatalf("%q, not %d", m.Body, n)
		}
	}
}

func TestADeferredPublishWaits(t *testing.T) {
	const delay = 400 * time.Millisecond
	address := startBroker(t)
	p := producer(t, address)
	handler, messages := collect()
	consumer(t, address, "c", nil, handler)
	must(t, p.Ping())
	published := time.Now()
	must(t, p.DeferredPublish("t", delay, []byte("later")))
	next(t, messages)
	if waited := time.Since(published); waited < delay || waited > delay+time.Second {
		t.Fatalf("came after %v", waited)
	}
}

func TestRefusalsReachTheCaller(t *testing.T) {
	address := startBroker(t)
	for want, publish := range map[string]func(*nsq.Producer) error{
		"E_BAD_TOPIC":   func(p *nsq.Producer) error { return p.Publish("bad!topic", []byte("x")) },
		"E_BAD_MESSAGE": func(p *nsq.Producer) error { return p.Publish("t", make([]byte, 1<<20+1)) },
		"E_INVALID":     func(p *nsq.Producer) error { return p.DeferredPublish("t", 2*time.Hour, []byte("x")) },
	} {
		var refused nsq.ErrProtocol
		if err := publish(producer(t, address)); !errors.As(err, &refused) || !strings.HasPrefix(refused.Reason, want) {
			t.Errorf("%v, not %s", err, want)
		}
	}
}

func TestALargeMessageIsWhole(t *testing.T) {
	address := startBroker(t)
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	must(t, producer(t, address).Publish("t", body))
	handler, messages := collect()
	consumer(t, address, "c", nil, handler)
	if m := next(t, messages); !bytes.Equal(m.Body, body) {
		t.Fatalf("%d bytes came", len(m.Body))
	}
}

// Creates channels of topic t: what is published before a channel exists goes to the others only.
func createChannels(t *testing.T, address string, channels ...string) {
	for _, channel := range channels {
		conn, err := net.Dial("tcp", address)
		must(t, err)
		defer conn.Close()
		_, err = fmt.Fprintf(conn, "  V2SUB t %s\n", channel)
		must(t, err)
		reply := make([]byte, 10)
		_, err = io.ReadFull(conn, reply)
		must(t, err)
		if string(reply[8:]) != "OK" {
			t.Fatalf("SUB: %q", reply)
		}
	}
}

func TestConnectionsShareAChannelAndEachChannelGetsAll(t *testing.T) {
	const count, connections = 300, 3
	address := startBroker(t)
	createChannels(t, address, "shared", "other")
	var mutex sync.Mutex
	var shared []string
	shares := make([]int, connections)
	done := make(chan struct{}, 1)
	for i := 0; i < connections; i++ {
		consumer(t, address, "shared", nil, nsq.HandlerFunc(func(m *nsq.Message) error {
			mutex.Lock()
			defer mutex.Unlock()
			shared = append(shared, string(m.Body))
			shares[i]++
			if len(shared) == count {
				done <- struct{}{}
			}
			return nil
		}))
	}
	handler, other := collect()
	consumer(t, address, "other", map[string]any{"max_in_flight": 100}, handler)
	p := producer(t, address)
	var want []string
	for n := 0; n < count; n++ {
		want = append(want, fmt.Sprintf("%03d", n))
		must(t, p.Publish("t", []byte(want[n])))
	}
	for n := 0; n < count; n++ {
		if m := next(t, other); string(m.Body) != want[n] {
			t.Fatalf("%q, not %q", m.Body, want[n])
		}
	}
	next(t, done)
	mutex.Lock()
	defer mutex.Unlock()
	sort.Strings(shared)
	if fmt.Sprint(shared) != fmt.Sprint(want) {
		t.Fatalf("not each once: %v", shared)
	}
	for i, share := range shares {
		if share == 0 {
			t.Fatalf("connection %d had nothing: %v", i, shares)
		}
	}
}

// givenUp is a handler that always fails, and learns of what go-nsq gives up.
type givenUp struct {
	attempts chan uint16
	last     chan uint16
}

func (h givenUp) HandleMessage(m *nsq.Message) error {
	h.attempts <- m.Attempts
	m.RequeueWithoutBackoff(0)
	return nil
}

func (h givenUp) LogFailedMessage(m *nsq.Message) { h.last <- m.Attempts }

func TestRequeuesCountAttemptsUntilItIsGivenUp(t *testing.T) {
	address := startBroker(t)
	must(t, producer(t, address).Publish("t", []byte("poison")))
	handler := givenUp{make(chan uint16, 10), make(chan uint16, 1)}
	consumer(t, address, "c", map[string]any{"max_attempts": 3}, handler)
	for want := uint16(1); want <= 3; want++ {
		if attempts := next(t, handler.attempts); attempts != want {
			t.Fatalf("attempt %d, not %d", attempts, want)
		}
	}
	if last := next(t, handler.last); last != 4 {
		t.Fatalf("given up at attempt %d", last)
	}
}

func TestARequeueWaitsItsDelay(t *testing.T) {
	const delay = 500 * time.Millisecond
	address := startBroker(t)
	must(t, producer(t, address).Publish("t", []byte("x")))
	times := make(chan time.Time, 2)
	consumer(t, address, "c", nil, nsq.HandlerFunc(func(m *nsq.Message) error {
		times <- time.Now()
		if m.Attempts == 1 {
			m.RequeueWithoutBackoff(delay)
		}
		return nil
	}))
	first := next(t, times)
	if waited := next(t, times).Sub(first); waited < delay || waited > delay+time.Second {
		t.Fatalf("came again after %v", waited)
	}
}

func TestAMessageTimesOutUnlessItIsTouched(t *testing.T) {
	// The shortest a client may ask for.
	const timeout = time.Second
	for _, touched := range []bool{false, true} {
		t.Run(fmt.Sprintf("touched=%v", touched), func(t *testing.T) {
			address := startBroker(t)
			must(t, producer(t, address).Publish("t", []byte("slow")))
			attempts := make(chan uint16, 10)
			finished := make(chan struct{})
			var late *nsq.Message
			consumer(t, address, "c", map[string]any{"msg_timeout": timeout},
				nsq.HandlerFunc(func(m *nsq.Message) error {
					attempts <- m.Attempts
					m.DisableAutoResponse()
					switch {
					case m.Attempts > 1:
						m.Finish()
						// An answer to the delivery that timed out: refused, and nobody is hurt.
						late.Finish()
						close(finished)
					case touched:
						// The work takes twice the timeout.
						for n := 0; n < 4; n++ {
							time.Sleep(timeout / 2)
							m.Touch()
						}
						m.Finish()
						close(finished)
					default:
						late = m
					}
					return nil
				}))
			next(t, finished)
			want := 2
			if touched {
				want = 1
			}
			if len(attempts) != want {
				t.Fatalf("%d deliveries, not %d", len(attempts), want)
			}
		})
	}
}

func TestBothEndsComeBackAfterKill9(t *testing.T) {
	b := startBrokerWith(t)
	handler, messages := collect()
	consumer(t, b.address, "c", map[string]any{"lookupd_poll_interval": "100ms"}, handler)
	p := producer(t, b.address)
	must(t, p.Publish("t", []byte("before")))
	if m := next(t, messages); string(m.Body) != "before" {
		t.Fatalf("%q", m.Body)
	}
	b.kill()
	b.run()
	// Until the producer has seen the loss, it answers with an error.
	deadline := time.Now().Add(patience)
	for p.Publish("t", []byte("after")) != nil {
		if time.Now().After(deadline) {
			t.Fatal("the producer does not come back")
		}
		time.Sleep(time.Millisecond)
	}
	// What was not finished for certain may come again.
	for string(next(t, messages).Body) != "after" {
	}
}

func TestABacklogLargerThanMemoryArrivesWholeAndInOrder(t *testing.T) {
	const batches, size, pad = 16, 128, 16 << 10
	b := startBrokerWith(t, "-memory-limit", "8MiB")
	p := producer(t, b.address)
	for batch := 0; batch < batches; batch++ {
		var bodies [][]byte
		for n := 0; n < size; n++ {
			bodies = append(bodies, []byte(fmt.Sprintf("%-*d", pad, batch*size+n)))
		}
		must(t, p.MultiPublish("t", bodies))
	}
	handler, messages := collect()
	consumer(t, b.address, "c", map[string]any{"max_in_flight": 100}, handler)
	for n := 0; n < batches*size; n++ {
		if m := next(t, messages); strings.TrimSpace(string(m.Body)) != fmt.Sprint(n) {
			t.Fatalf("%.20q, not %d", m.Body, n)
		}
	}
}

// post has something done by HTTP.
func post(t *testing.T, address, path string) {
	t.Helper()
	answer, err := http.Post("http://"+address+path, "", nil)
	must(t, err)
	answer.Body.Close()
	if answer.StatusCode != 200 {
		t.Fatalf("%s: %s", path, answer.Status)
	}
}

func TestAPausedChannelDeliversNothing(t *testing.T) {
	b := startBrokerWith(t)
	handler, messages := collect()
	consumer(t, b.address, "c", nil, handler)
	p := producer(t, b.address)
	must(t, p.Publish("t", []byte("before")))
	next(t, messages)
	post(t, b.http, "/channel/pause?topic=t&channel=c")
	must(t, p.Publish("t", []byte("held")))
	select {
	case m := <-messages:
		t.Fatalf("delivered while paused: %s", m.Body)
	case <-time.After(200 * time.Millisecond):
	}
	post(t, b.http, "/channel/unpause?topic=t&channel=c")
	if m := next(t, messages); string(m.Body) != "held" {
		t.Fatalf("%s", m.Body)
	}
}
