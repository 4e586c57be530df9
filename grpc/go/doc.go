// Package mqgrpc publishes to brokers of libmq and consumes from them over gRPC.
//
//	client, err := mqgrpc.NewClient(mqgrpc.WithBrokers("127.0.0.1:4155"))
//	defer client.Close()
//
// A [Publisher] takes single messages, puts them into batches by itself, and has one result for each. A
// message that was sent when the connection was lost is sent again with the same id, and stored once.
//
//	publisher, err := client.NewPublisher(mqgrpc.PublisherOptions{})
//	receipt, err := publisher.Publish(ctx, "orders", mqgrpc.Message{Body: body})
//
// A [Consumer] calls a handler for each message of a channel, some at the same time. What waits or is at work
// longer than the message timeout is extended; what the handler has returned nil for is finished, and the
// rest delivered again.
//
//	// Until ctx is done; then it finishes what is at work.
//	err := client.Consume(ctx, "orders", "billing", handle, mqgrpc.ConsumerOptions{Concurrency: 16})
//
// The stubs in mqv1 have all calls of the API; [Client.Conn] is a connection for them.
package mqgrpc
