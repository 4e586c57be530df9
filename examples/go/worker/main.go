// Prints the messages of a channel, one a line, and finishes them. Ends cleanly on SIGINT and SIGTERM.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/libmq/libmq/examples/go/connection"
	"github.com/libmq/libmq/examples/go/mqv1"
)

const (
	// Messages that we may have unfinished at a time. Finishing some makes room for others: credit is given once.
	credit     = 256
	retryAfter = 500 * time.Millisecond
)

var (
	channel = flag.String("channel", "", "the channel")
	count   = flag.Int("count", 0, "end after this many messages; 0: never")
)

var stdout = bufio.NewWriter(os.Stdout)

// process is your work: what fails is delivered again later. A message may come more than once in any case.
func process(message *mqv1.ReceivedMessage) error {
	if string(message.Body) == "fail-once" && message.Attempts == 1 {
		return errors.New("this one fails at its first attempt")
	}
	_, err := fmt.Fprintf(stdout, "%s\n", message.Body)
	return err
}

type worker struct {
	left  int
	pause connection.Pause
	// Done when it is to end; stop makes it so.
	stopping context.Context
	stop     func()
}

// run works over one stream until it ends.
func (w *worker) run(client mqv1.SubscribeServiceClient) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := client.Subscribe(connection.WithToken(ctx))
	if err != nil {
		return err
	}
	// Why a Send fails is told by Recv.
	stream.Send(&mqv1.SubscribeRequest{
		Open:   &mqv1.SubscribeOpen{Topic: *connection.Topic, Channel: *channel, ClientName: "example worker (Go)"},
		Credit: &mqv1.SubscribeCredit{Messages: credit},
	})
	// Closes our side behind the last acknowledgement: what we have not worked on returns to the channel at once.
	var working sync.Mutex
	defer context.AfterFunc(w.stopping, func() {
		working.Lock()
		defer working.Unlock()
		stream.CloseSend()
	})()
	for {
		response, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch response := response.Response.(type) {
		case *mqv1.SubscribeResponse_Opened:
			w.pause.Reset()
		case *mqv1.SubscribeResponse_Batch:
			working.Lock()
			if w.stopping.Err() == nil {
				stream.Send(w.work(response.Batch.Messages))
			}
			working.Unlock()
		case *mqv1.SubscribeResponse_Failures:
			// Their timeout had passed: they are delivered again, here or elsewhere.
			fmt.Fprintln(os.Stderr, len(response.Failures.Failures), "came too late")
		}
	}
}

// work processes messages, and returns what is to be told of them.
func (w *worker) work(messages []*mqv1.ReceivedMessage) *mqv1.SubscribeRequest {
	acks := &mqv1.SubscribeRequest{}
	var failed []uint64
	for _, message := range messages {
		if w.stopping.Err() != nil {
			break
		}
		if err := process(message); err != nil {
			fmt.Fprintln(os.Stderr, "to be tried again:", err)
			failed = append(failed, message.Id)
			continue
		}
		acks.Finish = append(acks.Finish, message.Id)
		if w.left--; w.left == 0 {
			w.stop()
		}
	}
	if len(failed) > 0 {
		acks.Requeue = []*mqv1.SubscribeRequeue{{Ids: failed, DelayMs: uint64(retryAfter.Milliseconds())}}
	}
	if err := stdout.Flush(); err != nil {
		// What nobody could read is not finished.
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
	return acks
}

func run() error {
	flag.Parse()
	conn, err := connection.Dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	client := mqv1.NewSubscribeServiceClient(conn)
	stopping, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	w := &worker{left: *count, stopping: stopping, stop: stop}
	for stopping.Err() == nil {
		err := w.run(client)
		if err == nil {
			continue
		}
		if status.Code(err) != codes.Unavailable {
			return err
		}
		fmt.Fprintln(os.Stderr, "connecting again:", err)
		select {
		case <-time.After(w.pause.Next()):
		case <-stopping.Done():
		}
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}
