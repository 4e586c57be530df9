// Prints the messages of a channel, one a line, and finishes them. Ends cleanly on SIGINT and SIGTERM.
package main

import (
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
	"google.golang.org/protobuf/proto"

	"github.com/libmq/libmq/examples/go/connection"
	"github.com/libmq/libmq/examples/go/mqv1"
)

const (
	// Messages that we work on at the same time. Finishing one makes room for another, so credit is given once.
	credit     = 16
	retryAfter = 500 * time.Millisecond
	// The timeout of what is at work starts anew this often.
	touchEvery = 10 * time.Second
)

var (
	channel = flag.String("channel", "", "the channel")
	count   = flag.Int("count", 0, "end after this many messages; 0: never")
)

var stdout sync.Mutex

// process is your work: what fails is delivered again later. A message may come more than once in any case.
func process(message *mqv1.ReceivedMessage) error {
	if string(message.Body) == "fail-once" && message.Attempts == 1 {
		return errors.New("this one fails at its first attempt")
	}
	stdout.Lock()
	defer stdout.Unlock()
	_, err := fmt.Printf("%s\n", message.Body)
	return err
}

type worker struct {
	left  int
	pause connection.Pause
	// Done when it is to end; stop makes it so.
	stopping context.Context
	stop     func()
}

// session is one stream, and what is at work on it.
type session struct {
	*worker
	stream  mqv1.SubscribeService_SubscribeClient
	mutex   sync.Mutex
	working map[string]bool
	// Our side is closed: nothing more is sent. What still comes returns when the stream ends.
	closed bool
}

// run works over one stream until it ends.
func (w *worker) run(client mqv1.SubscribeServiceClient) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := client.Subscribe(connection.WithToken(ctx))
	if err != nil {
		return err
	}
	s := &session{worker: w, stream: stream, working: map[string]bool{}}
	// Why a Send fails is told by Recv.
	stream.Send(&mqv1.SubscribeRequest{Request: &mqv1.SubscribeRequest_Open{Open: &mqv1.SubscribeOpen{
		Topic:      *connection.Topic,
		Channel:    *channel,
		ClientName: "example worker (Go)",
		Credit:     &mqv1.SubscribeCredit{Messages: proto.Uint32(credit)},
		// Our client takes messages of any size.
		MaxMessageBytes: proto.Uint64(0),
	}}})
	defer context.AfterFunc(w.stopping, s.leave)()
	touching := time.NewTicker(touchEvery)
	defer touching.Stop()
	go func() {
		for {
			select {
			case <-touching.C:
				s.touch()
			case <-ctx.Done():
				return
			}
		}
	}()
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
			for _, message := range response.Batch.Messages {
				s.begin(message)
			}
		case *mqv1.SubscribeResponse_Failures:
			// Their timeout had passed: they are delivered again, here or elsewhere.
			fmt.Fprintln(os.Stderr, len(response.Failures.Failures), "came too late")
		}
	}
}

// update sends a change of the stream, if our side is open still. The mutex is held.
func (s *session) update(update *mqv1.SubscribeUpdate) {
	if s.closed {
		return
	}
	s.stream.Send(&mqv1.SubscribeRequest{Request: &mqv1.SubscribeRequest_Update{Update: update}})
}

// begin works on a message, unless we are on our way out: then nobody looks at it, and it counts as no attempt.
func (s *session) begin(message *mqv1.ReceivedMessage) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.stopping.Err() != nil {
		s.update(&mqv1.SubscribeUpdate{Release: [][]byte{message.Token}})
		return
	}
	s.working[string(message.Token)] = true
	go s.work(message)
}

// work processes a message and acknowledges it.
func (s *session) work(message *mqv1.ReceivedMessage) {
	err := process(message)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	update := &mqv1.SubscribeUpdate{}
	if err != nil {
		fmt.Fprintln(os.Stderr, "to be tried again:", err)
		update.Requeue = []*mqv1.SubscribeRequeue{
			{Tokens: [][]byte{message.Token}, DelayMs: uint64(retryAfter.Milliseconds())},
		}
	} else {
		update.Finish = [][]byte{message.Token}
		if s.left--; s.left == 0 {
			s.stop()
		}
	}
	s.update(update)
	delete(s.working, string(message.Token))
	s.closeIfDone()
}

// touch extends what is at work.
func (s *session) touch() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	update := &mqv1.SubscribeUpdate{}
	for token := range s.working {
		update.Touch = append(update.Touch, []byte(token))
	}
	if s.stopping.Err() == nil {
		s.update(update)
	}
}

// leave takes no more, and ends behind what is at work.
func (s *session) leave() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.update(&mqv1.SubscribeUpdate{Credit: &mqv1.SubscribeCredit{Messages: proto.Uint32(0)}})
	s.closeIfDone()
}

// closeIfDone closes our side once nothing is at work and nothing more is begun.
func (s *session) closeIfDone() {
	if s.stopping.Err() != nil && len(s.working) == 0 && !s.closed {
		s.stream.CloseSend()
		s.closed = true
	}
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
