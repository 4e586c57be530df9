// Command clientload publishes or consumes by go-nsq, and prints the microseconds of CPU time that a message cost this
// process: the peer of the program client-load.
package main

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nsqio/go-nsq"
)

const (
	// batch is the messages of a batch.
	batch = 100
	// unanswered is how many publishes wait for their answer at most.
	unanswered = 1000
)

var body = make([]byte, 100)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "clientload:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 3 {
		return fmt.Errorf("usage: clientload send|send-batches|finish ADDRESS MESSAGES")
	}
	messages, err := strconv.Atoi(arguments[2])
	if err != nil {
		return err
	}
	var used time.Duration
	switch arguments[0] {
	case "send":
		used, err = publish(arguments[1], messages, 1)
	case "send-batches":
		used, err = publish(arguments[1], messages, batch)
	case "finish":
		used, err = consume(arguments[1], messages)
	default:
		err = fmt.Errorf("there is no load %q", arguments[0])
	}
	if err == nil {
		fmt.Printf("%.3f\n", float64(used.Nanoseconds())/1000/float64(messages))
	}
	return err
}

// cpu is what this process used so far.
func cpu() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func publish(address string, messages, size int) (time.Duration, error) {
	producer, err := nsq.NewProducer(address, nsq.NewConfig())
	if err != nil {
		return 0, err
	}
	producer.SetLoggerLevel(nsq.LogLevelError)
	if err := producer.Ping(); err != nil {
		return 0, err
	}
	bodies := make([][]byte, size)
	for n := range bodies {
		bodies[n] = body
	}
	answers := make(chan *nsq.ProducerTransaction, unanswered)
	room := make(chan struct{}, unanswered)
	done := make(chan error, 1)
	go func() {
		for range messages / size {
			if answer := <-answers; answer.Error != nil {
				done <- answer.Error
				return
			}
			<-room
		}
		done <- nil
	}()
	began := cpu()
	for range messages / size {
		room <- struct{}{}
		if size == 1 {
			err = producer.PublishAsync("t", body, answers)
		} else {
			err = producer.MultiPublishAsync("t", bodies, answers)
		}
		if err != nil {
			return 0, err
		}
	}
	err = <-done
	used := cpu() - began
	producer.Stop()
	return used, err
}

func consume(address string, messages int) (time.Duration, error) {
	config := nsq.NewConfig()
	config.MaxInFlight = 2000
	consumer, err := nsq.NewConsumer("t", "c", config)
	if err != nil {
		return 0, err
	}
	consumer.SetLoggerLevel(nsq.LogLevelError)
	var seen atomic.Int64
	done := make(chan struct{})
	consumer.AddHandler(nsq.HandlerFunc(func(*nsq.Message) error {
		if seen.Add(1) == int64(messages) {
			close(done)
		}
		return nil
	}))
	began := cpu()
	if err := consumer.ConnectToNSQD(address); err != nil {
		return 0, err
	}
	<-done
	used := cpu() - began
	consumer.Stop()
	<-consumer.StopChan
	return used, nil
}
