// Package connection is what both examples share: their arguments, a connection to the broker, and pauses between
// attempts.
package connection

import (
	"context"
	"flag"
	"math"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

var (
	address = flag.String("address", "127.0.0.1:4155", "host:port of the broker's gRPC")
	ca      = flag.String("ca", "", "PEM `file` of who signed the broker's certificate; none: no TLS")
	// Topic is the topic.
	Topic = flag.String("topic", "", "the topic")
)

// Dial makes a connection. It is established when it is first used.
func Dial() (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if *ca != "" {
		var err error
		if transport, err = credentials.NewClientTLSFromFile(*ca, ""); err != nil {
			return nil, err
		}
	}
	return grpc.NewClient(*address,
		grpc.WithTransportCredentials(transport),
		// A broker that is gone without a word is noticed after these.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 20 * time.Second}),
		// The broker says how large a message may be.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)))
}

// WithToken shows the token in MQ_TOKEN, if there is one. Without TLS it can be read on its way.
func WithToken(ctx context.Context) context.Context {
	if token := os.Getenv("MQ_TOKEN"); token != "" {
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	return ctx
}

// Pause is how long to wait before the next attempt.
type Pause time.Duration

// Next doubles it, within bounds.
func (p *Pause) Next() time.Duration {
	const first, longest = 100 * time.Millisecond, 2 * time.Second
	*p = Pause(min(max(2*time.Duration(*p), first), longest))
	return time.Duration(*p)
}

// Reset makes it short again.
func (p *Pause) Reset() { *p = 0 }
