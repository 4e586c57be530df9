package gonsq

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nsqio/go-nsq"
)

// lookup is an `mq lookup` process that can be killed and started again on its ports.
type lookup struct {
	t         *testing.T
	tcp, http string
	process   *exec.Cmd
}

func startLookup(t *testing.T) *lookup {
	t.Helper()
	l := &lookup{t: t, tcp: "127.0.0.1:0", http: "127.0.0.1:0"}
	l.run()
	t.Cleanup(func() {
		l.process.Process.Signal(syscall.SIGTERM)
		if err := l.process.Wait(); err != nil {
			t.Errorf("SIGTERM is a clean stop: %v", err)
		}
	})
	return l
}

func (l *lookup) run() {
	l.t.Helper()
	l.process = exec.Command(os.Getenv("MQ_BIN"), "lookup", "-grpc-address=", "-tcp-address", l.tcp, "-http-address", l.http)
	stdout, err := l.process.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := l.process.Start(); err != nil {
		l.t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	for _, address := range []*string{&l.tcp, &l.http} {
		line, err := lines.ReadString('\n')
		_, found, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			l.t.Fatalf("the lookup server is not ready: %q %v", line, err)
		}
		*address = found
	}
}

func (l *lookup) kill() {
	l.process.Process.Kill()
	l.process.Wait()
}

// has waits until the server gives as many producers of the topic.
func (l *lookup) has(topic string, producers int) {
	l.t.Helper()
	eventually(l.t, fmt.Sprintf("%d producers of %s at %s", producers, topic, l.http), func() bool {
		response, err := http.Get("http://" + l.http + "/lookup?topic=" + topic)
		if err != nil {
			return false
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return strings.Count(string(body), `"broadcast_address"`) == producers
	})
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// announced starts a broker that registers at the addresses.
func announced(t *testing.T, lookupds ...string) *broker {
	t.Helper()
	var flags []string
	for _, address := range lookupds {
		flags = append(flags, "-lookupd-tcp-address", address)
	}
	return startBrokerWith(t, flags...)
}

// pollInterval is go-nsq's 60 s, cut short.
const pollInterval = 200 * time.Millisecond

// byLookup consumes what it finds through lookup servers.
func byLookup(t *testing.T, topic, channel string, handler nsq.Handler, lookups ...*lookup) *nsq.Consumer {
	t.Helper()
	config := nsq.NewConfig()
	config.LookupdPollInterval = pollInterval
	config.LookupdPollJitter = 0
	config.MaxInFlight = 100
	config.MaxBackoffDuration = 0
	c, err := nsq.NewConsumer(topic, channel, config)
	must(t, err)
	c.SetLogger(silent, nsq.LogLevelError)
	c.AddHandler(handler)
	var addresses []string
	for _, l := range lookups {
		addresses = append(addresses, l.http)
	}
	must(t, c.ConnectToNSQLookupds(addresses))
	t.Cleanup(func() {
		c.Stop()
		<-c.StopChan
	})
	return c
}

// ledger is what was acknowledged to publishers and what consumers got.
type ledger struct {
	sync.Mutex
	acknowledged, received map[string]bool
}

func (l *ledger) note(in map[string]bool, body string) {
	l.Lock()
	defer l.Unlock()
	in[body] = true
}

// missing counts what was acknowledged and has not come.
func (l *ledger) missing() (missing int) {
	l.Lock()
	defer l.Unlock()
	for body := range l.acknowledged {
		if !l.received[body] {
			missing++
		}
	}
	return
}

// publish publishes numbered messages until stopped; what fails is not in the ledger, and not tried again.
func (l *ledger) publish(t *testing.T, b *broker, stop chan struct{}, count *atomic.Int64) {
	config := nsq.NewConfig()
	config.DialTimeout = time.Second
	p, err := nsq.NewProducer(b.address, config)
	if err != nil {
		t.Error(err)
		return
	}
	defer p.Stop()
	p.SetLogger(silent, nsq.LogLevelError)
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		body := fmt.Sprintf("%s %d", b.address, n)
		if err := p.Publish("fleet", []byte(body)); err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		l.note(l.acknowledged, body)
		count.Add(1)
		// Some thousand a second of each broker are load enough.
		time.Sleep(200 * time.Microsecond)
	}
}

func TestAFleetLosesNothingThoughEveryProcessIsKilled(t *testing.T) {
	lookups := []*lookup{startLookup(t), startLookup(t)}
	var brokers []*broker
	for range 3 {
		brokers = append(brokers, announced(t, lookups[0].tcp, lookups[1].tcp))
	}
	book := &ledger{acknowledged: map[string]bool{}, received: map[string]bool{}}
	handler := nsq.HandlerFunc(func(m *nsq.Message) error {
		book.note(book.received, string(m.Body))
		return nil
	})
	stop := make(chan struct{})
	var publishers sync.WaitGroup
	counts := make([]atomic.Int64, len(brokers))
	for i, b := range brokers {
		publishers.Add(1)
		go func() {
			defer publishers.Done()
			book.publish(t, b, stop, &counts[i])
		}()
	}
	for _, l := range lookups {
		l.has("fleet", 3)
	}
	consumer := byLookup(t, "fleet", "c", handler, lookups...)
	whole := func(what string) {
		t.Helper()
		for _, l := range lookups {
			l.has("fleet", 3)
		}
		eventually(t, "the consumer at all brokers "+what, func() bool { return consumer.Stats().Connections == 3 })
		for i := range counts {
			before := counts[i].Load()
			eventually(t, "load on every broker "+what, func() bool { return counts[i].Load() > before+50 })
		}
	}
	whole("at first")
	for i, l := range lookups {
		l.kill()
		received := consumer.Stats().MessagesReceived
		eventually(t, "messages with one lookup server", func() bool {
			return consumer.Stats().MessagesReceived > received+100
		})
		l.run()
		whole(fmt.Sprintf("after lookup server %d", i))
	}
	for i, b := range brokers {
		b.kill()
		lookups[0].has("fleet", 2)
		other := &counts[(i+1)%len(counts)]
		before := other.Load()
		eventually(t, "load on another broker", func() bool { return other.Load() > before+50 })
		b.run()
		whole(fmt.Sprintf("after broker %d", i))
	}
	close(stop)
	publishers.Wait()
	eventually(t, "all that was acknowledged", func() bool { return book.missing() == 0 })
	t.Logf("%d acknowledged, all came", len(book.acknowledged))
}

func TestANewBrokerIsFoundWithinOnePoll(t *testing.T) {
	l := startLookup(t)
	handler, messages := collect()
	first := announced(t, l.tcp)
	must(t, producer(t, first.address).Publish("t", []byte("1")))
	l.has("t", 1)
	consumer := byLookup(t, "t", "c", handler, l)
	if m := next(t, messages); string(m.Body) != "1" {
		t.Fatalf("%s", m.Body)
	}
	second := announced(t, l.tcp)
	must(t, producer(t, second.address).Publish("t", []byte("2")))
	start := time.Now()
	eventually(t, "the second connection", func() bool { return consumer.Stats().Connections == 2 })
	// The poll, and a second for a busy machine.
	if took := time.Since(start); took > pollInterval+time.Second {
		t.Fatalf("found after %v", took)
	}
	// go-nsq may take 5 s more to have RDY left for it.
	if m := next(t, messages); string(m.Body) != "2" || m.NSQDAddress != second.address {
		t.Fatalf("%s from %s", m.Body, m.NSQDAddress)
	}
}

// proxy passes connections on until it is cut: then it ends them, and takes new ones without passing anything on.
type proxy struct {
	listener net.Listener
	to       string
	mutex    sync.Mutex
	cut      bool
	open     []net.Conn
}

func startProxy(t *testing.T, to string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{listener: listener, to: to}
	t.Cleanup(func() {
		listener.Close()
		p.set(true)
	})
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.pass(conn)
		}
	}()
	return p
}

func (p *proxy) pass(conn net.Conn) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.open = append(p.open, conn)
	if p.cut {
		return
	}
	far, err := net.Dial("tcp", p.to)
	if err != nil {
		conn.Close()
		return
	}
	p.open = append(p.open, far)
	for _, pair := range [][2]net.Conn{{conn, far}, {far, conn}} {
		go func() {
			io.Copy(pair[0], pair[1])
			conn.Close()
			far.Close()
		}()
	}
}

func (p *proxy) set(cut bool) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.cut = cut
	for _, conn := range p.open {
		conn.Close()
	}
	p.open = nil
}

func TestABrokerCutOffFromOneLookupServerIsFoundByTheOther(t *testing.T) {
	near, far := startLookup(t), startLookup(t)
	wire := startProxy(t, far.tcp)
	b := announced(t, near.tcp, wire.listener.Addr().String())
	p := producer(t, b.address)
	must(t, p.Publish("t", []byte("1")))
	near.has("t", 1)
	far.has("t", 1)
	handler, messages := collect()
	byLookup(t, "t", "c", handler, near, far)
	next(t, messages)
	wire.set(true)
	far.has("t", 0)
	must(t, p.Publish("t", []byte("2")))
	next(t, messages)
	// A new topic waits for no answer from the other side.
	must(t, p.Publish("u", []byte("3")))
	near.has("u", 1)
	late, others := collect()
	byLookup(t, "u", "c", late, near, far)
	next(t, others)
	wire.set(false)
	far.has("t", 1)
	far.has("u", 1)
}

func TestARollingRestartByDrainStopsNobody(t *testing.T) {
	l := startLookup(t)
	brokers := []*broker{announced(t, l.tcp), announced(t, l.tcp)}
	book := &ledger{acknowledged: map[string]bool{}, received: map[string]bool{}}
	stop := make(chan struct{})
	var publishers sync.WaitGroup
	counts := make([]atomic.Int64, len(brokers))
	for i, b := range brokers {
		publishers.Add(1)
		go func() {
			defer publishers.Done()
			book.publish(t, b, stop, &counts[i])
		}()
	}
	l.has("fleet", 2)
	consumer := byLookup(t, "fleet", "c", nsq.HandlerFunc(func(m *nsq.Message) error {
		book.note(book.received, string(m.Body))
		return nil
	}), l)
	for i, b := range brokers {
		eventually(t, "the consumer at both", func() bool { return consumer.Stats().Connections == 2 })
		before := counts[i].Load()
		eventually(t, "load", func() bool { return counts[i].Load() > before+50 })
		drain := exec.Command(os.Getenv("MQ_BIN"), "drain", "-http-address", b.http, "-timeout", "20s")
		if out, err := drain.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if err := b.process.Wait(); err != nil {
			t.Fatalf("a drained broker stops cleanly: %v", err)
		}
		l.has("fleet", 1)
		b.run()
		l.has("fleet", 2)
		eventually(t, "load again", func() bool { return counts[i].Load() > before+100 })
	}
	close(stop)
	publishers.Wait()
	eventually(t, "all that was acknowledged", func() bool { return book.missing() == 0 })
	t.Logf("%d acknowledged, all came", len(book.acknowledged))
}

func TestADrainingBrokerSaysSoAndDeliversWhatItHas(t *testing.T) {
	b := startBrokerWith(t)
	p := producer(t, b.address)
	must(t, p.Publish("t", []byte("1")))
	handler, messages := collect()
	drained := make(chan error, 1)
	go func() {
		drained <- exec.Command(os.Getenv("MQ_BIN"), "drain", "-http-address", b.http, "-timeout", "20s").Run()
	}()
	// A publish that comes before the wish is taken as ever.
	sent := 1
	eventually(t, "a refusal", func() bool {
		err := p.Publish("t", []byte("more"))
		if err == nil {
			sent++
			return false
		}
		if !strings.Contains(err.Error(), "E_PUB_FAILED PUB failed the broker is being drained") {
			t.Fatal(err)
		}
		return true
	})
	consumer(t, b.address, "c", nil, handler)
	for range sent {
		next(t, messages)
	}
	if err := next(t, drained); err != nil {
		t.Fatal(err)
	}
	if err := b.process.Wait(); err != nil {
		t.Fatalf("a drained broker stops cleanly: %v", err)
	}
	b.run()
}
