// Prints the messages of a channel, one a line, and finishes them. Ends cleanly on SIGINT and SIGTERM.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/libmq/libmq/examples/go/connection"
	mqgrpc "github.com/libmq/libmq/grpc/go"
)

func run() error {
	channel := flag.String("channel", "", "the channel")
	count := flag.Int64("count", 0, "end after this many messages; 0: never")
	client, err := connection.Client()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var done atomic.Int64
	// The handler is your work. A message may come more than once, where this process ends before it has
	// finished it.
	handler := func(_ context.Context, message *mqgrpc.Delivery) error {
		if string(message.Body) == "fail-once" && message.Attempts == 1 {
			return errors.New("this one fails at its first attempt")
		}
		_, err := fmt.Printf("%s\n", message.Body)
		if done.Add(1) == *count {
			stop()
		}
		return err
	}
	options := mqgrpc.ConsumerOptions{Name: "example worker (Go)", Logger: slog.Default()}
	return client.Consume(ctx, *connection.Topic, *channel, handler, options)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}
