// Publishes each line of standard input as a message, and ends when the broker has stored all of them.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/libmq/libmq/examples/go/connection"
	"github.com/libmq/libmq/examples/go/mqv1"
)

const (
	batchMessages = 100
	batchBytes    = 64 << 10
	// How long to go on without a single answer.
	patience = 30 * time.Second
)

// refused says why a batch is not stored.
type refused struct{ *mqv1.Failure }

func (r refused) Error() string { return r.Message }

type publisher struct {
	lines      *bufio.Reader
	run        string
	messages   int
	batches    uint64
	ended      bool
	unanswered []*mqv1.PublishStreamRequest // In order, kept so that they can be sent again.
	stored     int
	lastAnswer time.Time
	pause      connection.Pause
}

// next is the next batch, or nil at the end of the lines.
func (p *publisher) next() (*mqv1.PublishStreamRequest, error) {
	batch := &mqv1.PublishStreamRequest{Correlation: p.batches, Topic: *connection.Topic}
	for size := 0; len(batch.Messages) < batchMessages && size < batchBytes; {
		line, err := p.lines.ReadBytes('\n')
		// A message has at least one byte.
		if body := bytes.TrimRight(line, "\r\n"); len(body) > 0 {
			batch.Messages = append(batch.Messages, &mqv1.OutgoingMessage{
				Body:    body,
				Headers: []*mqv1.Header{{Name: "content-type", Value: []byte("text/plain")}},
				// A message that is sent again has the same id again, and is stored once.
				DedupId: fmt.Sprintf("%s-%d", p.run, p.messages),
			})
			p.messages++
			size += len(body)
		}
		if err == io.EOF {
			p.ended = true
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if len(batch.Messages) == 0 {
		return nil, nil
	}
	p.batches++
	p.unanswered = append(p.unanswered, batch)
	return batch, nil
}

func (p *publisher) answered(result *mqv1.PublishResult) error {
	if failure := result.GetFailure(); failure != nil {
		return refused{failure}
	}
	at := slices.IndexFunc(p.unanswered, func(batch *mqv1.PublishStreamRequest) bool {
		return batch.Correlation == result.Correlation
	})
	if at < 0 {
		return fmt.Errorf("an answer to batch %d, which was not sent", result.Correlation)
	}
	p.stored += len(p.unanswered[at].Messages)
	p.unanswered = slices.Delete(p.unanswered, at, at+1)
	p.lastAnswer = time.Now()
	p.pause.Reset()
	return nil
}

// publish works over one stream until everything is answered.
func (p *publisher) publish(ctx context.Context, client mqv1.PublishServiceClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.PublishStream(connection.WithToken(ctx))
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	// How many of our batches may be unanswered.
	window := first.GetWindow()
	limit := int(max(1, min(window.Batches, window.Messages/batchMessages, uint32(window.Bytes/batchBytes))))
	// Why a Send fails is told by Recv.
	for _, batch := range p.unanswered {
		stream.Send(batch)
	}
	for !p.ended || len(p.unanswered) > 0 {
		for !p.ended && len(p.unanswered) < limit {
			batch, err := p.next()
			if err != nil {
				return err
			}
			if batch != nil {
				stream.Send(batch)
			}
		}
		if len(p.unanswered) == 0 {
			break
		}
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, result := range response.GetResults().GetResults() {
			if err := p.answered(result); err != nil {
				return err
			}
		}
	}
	return stream.CloseSend()
}

// retry is how long to wait before trying again after err; 0 if that can't help.
func (p *publisher) retry(err error) time.Duration {
	var why refused
	switch {
	case time.Since(p.lastAnswer) > patience:
		return 0
	case errors.As(err, &why):
		return time.Duration(why.RetryAfterMs) * time.Millisecond
	case status.Code(err) == codes.Unavailable:
		return p.pause.Next()
	}
	return 0
}

func run() error {
	flag.Parse()
	conn, err := connection.Dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	client := mqv1.NewPublishServiceClient(conn)
	p := &publisher{lines: bufio.NewReader(os.Stdin), run: rand.Text(), lastAnswer: time.Now()}
	for {
		err := p.publish(context.Background(), client)
		if err == nil {
			break
		}
		pause := p.retry(err)
		if pause == 0 {
			return fmt.Errorf("%d messages are stored, then: %w", p.stored, err)
		}
		time.Sleep(pause)
	}
	fmt.Fprintf(os.Stderr, "published %d messages\n", p.stored)
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "publisher:", err)
		os.Exit(1)
	}
}
