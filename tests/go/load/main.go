// Command load publishes and consumes by go-nsq at a fixed rate and prints what that cost the server, in the form of
// `mq bench --json`.
package main

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"github.com/nsqio/go-nsq"
)

// stampBytes is what the load writes into a body: the run's number and the message's.
const stampBytes = 16

// patience is how long answers and messages may be missing before they are taken for lost.
const patience = 20 * time.Second

// answersMax is how many answers may wait to be looked at: go-nsq's publisher stops at a full channel.
const answersMax = 100_000

type options struct {
	address, topic, channel          string
	rate, seconds, size, maxInFlight int
	pid                              int
}

type report struct {
	Workload string  `json:"workload"`
	Address  string  `json:"address"`
	Phases   []phase `json:"phases"`
	Check    check   `json:"check"`
}

type phase struct {
	Name                string  `json:"name"`
	Seconds             float64 `json:"seconds"`
	Published           int     `json:"published"`
	Delivered           int     `json:"delivered"`
	Operations          int     `json:"operations"`
	OperationsPerSecond float64 `json:"operations_per_second"`
	Server              *used   `json:"server,omitempty"`
	OtherCPU            float64 `json:"other_cpu_s"`
}

type check struct {
	Lost       int `json:"lost"`
	Duplicates int `json:"duplicates"`
	Strangers  int `json:"strangers"`
}

func main() {
	var o options
	flag.StringVar(&o.address, "address", "127.0.0.1:4150", "server to load: host:port")
	flag.StringVar(&o.topic, "topic", "bench", "topic; made if there is none")
	flag.StringVar(&o.channel, "channel", "bench", "channel; made if there is none")
	flag.IntVar(&o.rate, "rate", 1000, "messages a second")
	flag.IntVar(&o.seconds, "seconds", 15, "how long it publishes")
	flag.IntVar(&o.size, "size", 200, "bytes of a message")
	flag.IntVar(&o.maxInFlight, "max-in-flight", 200, "messages the consumer has in flight at most")
	flag.IntVar(&o.pid, "pid", 0, "process of the server on this machine: its CPU is measured")
	flag.Parse()
	report, err := run(o)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(report)
	}
	if err == nil && report.Check.Lost > 0 {
		err = fmt.Errorf("%d messages did not come", report.Check.Lost)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// seen notes which messages of the run came. go-nsq calls it from one goroutine.
type seen struct {
	run      uint64
	came     []bool
	distinct atomic.Int64
	check    check
	// last is when the last message came for the first time.
	last time.Time
	done chan struct{}
}

func (s *seen) HandleMessage(m *nsq.Message) error {
	if len(m.Body) < stampBytes || binary.BigEndian.Uint64(m.Body) != s.run {
		s.check.Strangers++
		return nil
	}
	n := binary.BigEndian.Uint64(m.Body[8:])
	if n >= uint64(len(s.came)) {
		s.check.Strangers++
		return nil
	}
	if s.came[n] {
		s.check.Duplicates++
		return nil
	}
	s.came[n] = true
	s.last = time.Now()
	if s.distinct.Add(1) == int64(len(s.came)) {
		close(s.done)
	}
	return nil
}

func run(o options) (*report, error) {
	if o.rate < 1 || o.seconds < 1 || o.size < stampBytes {
		return nil, fmt.Errorf("--rate and --seconds must be 1 or more, --size %d or more", stampBytes)
	}
	total := o.rate * o.seconds
	s := &seen{run: rand.Uint64(), came: make([]bool, total), done: make(chan struct{})}

	config := nsq.NewConfig()
	config.MaxInFlight = o.maxInFlight
	consumer, err := nsq.NewConsumer(o.topic, o.channel, config)
	if err != nil {
		return nil, err
	}
	consumer.SetLoggerLevel(nsq.LogLevelError)
	consumer.AddHandler(s)
	if err := consumer.ConnectToNSQD(o.address); err != nil {
		return nil, err
	}
	producer, err := nsq.NewProducer(o.address, nsq.NewConfig())
	if err != nil {
		return nil, err
	}
	producer.SetLoggerLevel(nsq.LogLevelError)
	if err := producer.Ping(); err != nil {
		return nil, err
	}

	meter, err := startMeter(o.pid)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	err = publish(producer, o, s.run)
	if err != nil {
		return nil, err
	}
	select {
	case <-s.done:
	case <-time.After(patience):
	}
	// After this nobody writes to what was seen.
	consumer.Stop()
	<-consumer.StopChan
	producer.Stop()

	delivered := int(s.distinct.Load())
	s.check.Lost = total - delivered
	p := phase{Name: "go-nsq", Published: total, Delivered: delivered, Operations: delivered}
	if delivered > 0 {
		p.Seconds = s.last.Sub(began).Seconds()
		p.OperationsPerSecond = float64(delivered) / p.Seconds
	}
	if err := meter.stop(&p); err != nil {
		return nil, err
	}
	return &report{Workload: "go-nsq", Address: o.address, Phases: []phase{p}, Check: s.check}, nil
}

// publish sends message n at n/rate seconds, whatever was answered, and returns once all are acknowledged.
func publish(producer *nsq.Producer, o options, run uint64) error {
	total := o.rate * o.seconds
	answers := make(chan *nsq.ProducerTransaction, answersMax)
	acknowledged := make(chan error, 1)
	go func() {
		for range total {
			if answer := <-answers; answer.Error != nil {
				acknowledged <- answer.Error
				return
			}
		}
		acknowledged <- nil
	}()
	random := rand.New(rand.NewPCG(1, 1))
	filler := make([]byte, o.size)
	for i := range filler {
		filler[i] = 'a' + byte(random.IntN(26))
	}
	began := time.Now()
	for n := range total {
		due := began.Add(time.Duration(n) * time.Second / time.Duration(o.rate))
		time.Sleep(time.Until(due))
		// Its own: go-nsq keeps it until it is written.
		body := append([]byte(nil), filler...)
		binary.BigEndian.PutUint64(body, run)
		binary.BigEndian.PutUint64(body[8:], uint64(n))
		if err := producer.PublishAsync(o.topic, body, answers); err != nil {
			return err
		}
	}
	select {
	case err := <-acknowledged:
		return err
	case <-time.After(patience):
		return fmt.Errorf("not all was acknowledged %v after the last message", patience)
	}
}
