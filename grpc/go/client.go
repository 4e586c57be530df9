package mqgrpc

import (
	"context"
	"crypto/tls"
	"errors"
	"math"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

const (
	// A peer is asked after this long without a sign of life, and is gone after as long again.
	keepaliveAfter = 20 * time.Second
	// Longest time for opening a stream, connecting included.
	openTimeout = 10 * time.Second
)

// Client has the connections that publishers and consumers share: one to each server. Its methods may be
// called at the same time.
type Client struct {
	brokers   []string
	discovery []string
	dial      []grpc.DialOption
	ctx       context.Context
	cancel    context.CancelFunc
	// Tasks of publishers and consumers.
	tasks sync.WaitGroup

	mu          sync.Mutex
	connections map[string]*grpc.ClientConn
	closed      bool
}

// Option is a setting of a [Client].
type Option func(*settings)

type settings struct {
	brokers, discovery []string
	transport          credentials.TransportCredentials
	token              string
	dial               []grpc.DialOption
}

// WithBrokers names brokers by their addresses, such as 127.0.0.1:4155. A publisher publishes to one of them,
// and to the next if that is gone; a consumer consumes from all of them.
func WithBrokers(addresses ...string) Option {
	return func(s *settings) { s.brokers = append(s.brokers, addresses...) }
}

// WithDiscovery names discovery services (of `mq lookup`, such as 127.0.0.1:4165). Consumers follow the
// brokers that have their topic by what these say, and not those of [WithBrokers]. Publishers do not use
// them: a broker is named there once it has the topic.
func WithDiscovery(addresses ...string) Option {
	return func(s *settings) { s.discovery = append(s.discovery, addresses...) }
}

// WithTLS speaks TLS with all servers.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) { s.transport = credentials.NewTLS(config) }
}

// WithToken shows a token with each call. Without TLS it can be read on its way. An empty one is not shown.
func WithToken(token string) Option {
	return func(s *settings) { s.token = token }
}

// WithDialOptions passes options on to gRPC, behind those that a client sets itself.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) { s.dial = append(s.dial, options...) }
}

// NewClient makes a client. It connects when that is first needed.
func NewClient(options ...Option) (*Client, error) {
	s := settings{transport: insecure.NewCredentials()}
	for _, option := range options {
		option(&s)
	}
	if len(s.brokers)+len(s.discovery) == 0 {
		return nil, errors.New("mqgrpc: a client needs the address of a broker or of a discovery service")
	}
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(s.transport),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveAfter, Timeout: keepaliveAfter}),
		// Brokers say how large a message may be.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstPause, Multiplier: 2, Jitter: 0.2, MaxDelay: longestPause},
			MinConnectTimeout: openTimeout,
		}),
	}
	if s.token != "" {
		dial = append(dial, grpc.WithPerRPCCredentials(bearer(s.token)))
	}
	client := &Client{
		brokers:     s.brokers,
		discovery:   s.discovery,
		dial:        append(dial, s.dial...),
		connections: map[string]*grpc.ClientConn{},
	}
	client.ctx, client.cancel = context.WithCancel(context.Background())
	return client, nil
}

// Conn returns the connection to a server, to be used with the stubs in mqv1. It is the client's, and closed
// by it.
func (c *Client) Conn(address string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if connection, ok := c.connections[address]; ok {
		return connection, nil
	}
	connection, err := grpc.NewClient(address, c.dial...)
	if err != nil {
		return nil, err
	}
	c.connections[address] = connection
	return connection, nil
}

// Close ends all connections, and with them what was not closed before: publishers and consumers have a Close
// of their own, which loses nothing. It waits for their tasks, but not for handlers.
func (c *Client) Close() error {
	c.mu.Lock()
	connections := c.connections
	c.connections, c.closed = nil, true
	c.mu.Unlock()
	c.cancel()
	c.tasks.Wait()
	var failed error
	for _, connection := range connections {
		failed = errors.Join(failed, connection.Close())
	}
	return failed
}

// begin runs a task that Close waits for, or returns ErrClosed.
func (c *Client) begin(task func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	c.tasks.Go(task)
	return nil
}

// bearer shows a token in the metadata of each call.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity is false: brokers in private networks have tokens without TLS.
func (bearer) RequireTransportSecurity() bool { return false }
