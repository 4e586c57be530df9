package mqgrpc_test

import (
	"context"
	"fmt"
	"log"
	"os/signal"
	"syscall"

	mqgrpc "github.com/libmq/libmq/grpc/go"
)

// A worker: it ends in order on a signal.
func ExampleClient_Consume() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	client, err := mqgrpc.NewClient(mqgrpc.WithBrokers("127.0.0.1:4155"))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	err = client.Consume(ctx, "orders", "billing", func(ctx context.Context, message *mqgrpc.Delivery) error {
		_, err := fmt.Printf("%s\n", message.Body)
		return err // What fails is delivered again, later.
	}, mqgrpc.ConsumerOptions{Concurrency: 16})
	if err != nil {
		log.Fatal(err)
	}
}

// Many goroutines can publish at the same time: their messages go in batches.
func ExamplePublisher_Publish() {
	client, err := mqgrpc.NewClient(mqgrpc.WithBrokers("127.0.0.1:4155"))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	publisher, err := client.NewPublisher(mqgrpc.PublisherOptions{})
	if err != nil {
		log.Fatal(err)
	}
	receipt, err := publisher.Publish(context.Background(), "orders", mqgrpc.Message{Body: []byte("order 1")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stored at", receipt.Offset)
	if err := publisher.Close(context.Background()); err != nil {
		log.Fatal(err)
	}
}
