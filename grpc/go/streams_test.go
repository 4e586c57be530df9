package mqgrpc_test

import (
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/libmq/libmq/grpc/go/mqv1"
)

// A client that keeps to the streams HTTP/2 allows has the others wait. They come on because what is refused ends.
func TestEachOf10001StreamsOnAConnectionIsOpenedOrRefused(t *testing.T) {
	const streams, most = 10_001, 256
	broker := broker(t)
	connection, err := grpc.NewClient(broker.address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer connection.Close()
	service, ctx := mqv1.NewSubscribeServiceClient(connection), soon(t)
	open := func() error {
		stream, err := service.Subscribe(ctx)
		if err != nil {
			return err
		}
		opening := &mqv1.SubscribeRequest_Open{Open: &mqv1.SubscribeOpen{Topic: "t", Channel: "c"}}
		// If it fails, Recv says why.
		_ = stream.Send(&mqv1.SubscribeRequest{Request: opening})
		_, err = stream.Recv()
		return err
	}
	// The first admits its caller: from then on the connection has all its places.
	must(t, open())
	answers := make(chan error, streams)
	var opening sync.WaitGroup
	for range streams - 1 {
		opening.Add(1)
		go func() {
			defer opening.Done()
			answers <- open()
		}()
	}
	opening.Wait()
	close(answers)
	opened := 1
	for err := range answers {
		switch refused := status.Convert(err); {
		case err == nil:
			opened++
		case refused.Code() != codes.ResourceExhausted || !strings.Contains(refused.Message(), "--grpc-max-streams"):
			t.Fatal(err)
		}
	}
	if opened != most {
		t.Fatalf("%d of %d are open, not %d", opened, streams, most)
	}
}
