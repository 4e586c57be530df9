package mqgrpc_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	mqgrpc "github.com/libmq/libmq/grpc/go"
	"github.com/libmq/libmq/grpc/go/mqv1"
)

// Bodies of the benchmarks.
var benchmarkBody = bytes.Repeat([]byte("x"), 100)

// BenchmarkUnary is a call for each message; its client-ns/op and broker-ns/op are what one costs in CPU.
func BenchmarkUnary(b *testing.B) {
	each(b, func(b *testing.B, address string, parallel int) {
		connection, err := client(b, mqgrpc.WithBrokers(address)).Conn(address)
		must(b, err)
		stub := mqv1.NewPublishServiceClient(connection)
		publishes(b, parallel, func() error {
			message := &mqv1.OutgoingMessage{Body: benchmarkBody}
			_, err := stub.Publish(context.Background(), &mqv1.PublishRequest{Topic: "t", Messages: []*mqv1.OutgoingMessage{message}})
			return err
		})
	})
}

// BenchmarkPublisher is the same through a Publisher.
func BenchmarkPublisher(b *testing.B) {
	each(b, func(b *testing.B, address string, parallel int) {
		p := publisher(b, client(b, mqgrpc.WithBrokers(address)), mqgrpc.PublisherOptions{})
		publishes(b, parallel, func() error {
			_, err := p.Publish(context.Background(), "t", mqgrpc.Message{Body: benchmarkBody})
			return err
		})
		must(b, p.Close(context.Background()))
	})
}

// BenchmarkSend does not wait for each result.
func BenchmarkSend(b *testing.B) {
	each(b, func(b *testing.B, address string, parallel int) {
		p := publisher(b, client(b, mqgrpc.WithBrokers(address)), mqgrpc.PublisherOptions{})
		publishes(b, parallel, func() error {
			_, err := p.Send(context.Background(), "t", mqgrpc.Message{Body: benchmarkBody})
			return err
		})
		must(b, p.Close(context.Background()))
	})
}

// BenchmarkConsume is a handler that does nothing, so many at a time.
func BenchmarkConsume(b *testing.B) {
	each(b, func(b *testing.B, address string, parallel int) {
		c := client(b, mqgrpc.WithBrokers(address))
		p := publisher(b, c, mqgrpc.PublisherOptions{})
		for range b.N {
			_, err := p.Send(context.Background(), "t", mqgrpc.Message{Body: benchmarkBody})
			must(b, err)
		}
		must(b, p.Close(context.Background()))
		var handled atomic.Int64
		all := make(chan struct{})
		b.ResetTimer()
		consuming := consumer(b, c, func(context.Context, *mqgrpc.Delivery) error {
			if handled.Add(1) == int64(b.N) {
				close(all)
			}
			return nil
		}, mqgrpc.ConsumerOptions{Concurrency: parallel})
		<-all
		must(b, consuming.Close(context.Background()))
	})
}

func each(b *testing.B, run func(b *testing.B, address string, parallel int)) {
	for _, parallel := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("%d", parallel), func(b *testing.B) {
			broker := broker(b)
			own, others := cpu(b, "self"), cpu(b, strconv.Itoa(broker.command.Process.Pid))
			run(b, broker.address(), parallel)
			own, others = cpu(b, "self")-own, cpu(b, strconv.Itoa(broker.command.Process.Pid))-others
			b.ReportMetric(float64(own.Nanoseconds())/float64(b.N), "client-ns/op")
			b.ReportMetric(float64(others.Nanoseconds())/float64(b.N), "broker-ns/op")
		})
	}
}

// publishes calls it b.N times, so many at a time.
func publishes(b *testing.B, parallel int, publish func() error) {
	left := make(chan error, parallel)
	b.ResetTimer()
	for n := range parallel {
		times := b.N / parallel
		if n < b.N%parallel {
			times++
		}
		go func() {
			for range times {
				if err := publish(); err != nil {
					left <- err
					return
				}
			}
			left <- nil
		}()
	}
	for range parallel {
		must(b, <-left)
	}
}

// cpu is what a process has spent: its own by the system's clock, others' as Linux counts it, in ticks.
func cpu(b *testing.B, process string) time.Duration {
	if process == "self" {
		var usage syscall.Rusage
		must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	text, err := os.ReadFile("/proc/" + process + "/stat")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const tick = 10 * time.Millisecond
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick
}
