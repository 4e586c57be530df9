// Publishes each line of standard input as a message, and ends when the broker has stored all of them.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/libmq/libmq/examples/go/connection"
	mqgrpc "github.com/libmq/libmq/grpc/go"
)

func run() error {
	client, err := connection.Client()
	if err != nil {
		return err
	}
	defer client.Close()
	publisher, err := client.NewPublisher(mqgrpc.PublisherOptions{})
	if err != nil {
		return err
	}
	ctx, lines, sent := context.Background(), bufio.NewReader(os.Stdin), 0
	for err == nil {
		var line []byte
		line, err = lines.ReadBytes('\n')
		// A message has at least one byte.
		if body := bytes.TrimRight(line, "\r\n"); len(body) > 0 {
			headers := []mqgrpc.Header{{Name: "content-type", Value: []byte("text/plain")}}
			if _, err := publisher.Send(ctx, *connection.Topic, mqgrpc.Message{Body: body, Headers: headers}); err != nil {
				return err
			}
			sent++
		}
	}
	if err != io.EOF {
		return err
	}
	err = publisher.Close(ctx)
	var failed *mqgrpc.NotStoredError
	if errors.As(err, &failed) {
		return fmt.Errorf("%d messages are stored, then: %w", sent-failed.Messages, failed.First)
	}
	fmt.Fprintf(os.Stderr, "published %d messages\n", sent)
	return err
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "publisher:", err)
		os.Exit(1)
	}
}
