package mqgrpc

import (
	"context"
	"net"
	"strconv"

	"github.com/libmq/libmq/grpc/go/mqv1"
)

// follow consumes from these brokers, and no longer from others. The lock is held.
func (c *Consumer) follow(brokers []string) error {
	wanted := map[string]bool{}
	for _, broker := range brokers {
		wanted[broker] = true
		if feed := c.feeds[broker]; feed != nil {
			feed.unwanted = false
			continue
		}
		feed := &feed{consumer: c, broker: broker}
		c.feeds[broker] = feed
		if err := c.client.begin(feed.run); err != nil {
			delete(c.feeds, broker)
			return err
		}
	}
	for broker, feed := range c.feeds {
		if !wanted[broker] {
			// Its stream goes on as long as it stands: a broker that discovery has lost may be there.
			feed.unwanted = true
		}
	}
	return nil
}

// discover follows the brokers that any of the services names. The lock is held.
func (c *Consumer) discover() error {
	named := make([][]string, len(c.client.discovery))
	for at, service := range c.client.discovery {
		heard := func(brokers []string) {
			c.mu.Lock()
			defer c.mu.Unlock()
			named[at] = brokers
			var all []string
			for _, brokers := range named {
				all = append(all, brokers...)
			}
			if !c.closing {
				// It fails only if the client is closed, and the consumer with it.
				_ = c.follow(all)
			}
		}
		c.watching++
		if err := c.client.begin(func() { c.watch(service, heard) }); err != nil {
			c.watching--
			return err
		}
	}
	return nil
}

// watch reports what one service says, until the consumer ends. What it said last holds while it is away.
func (c *Consumer) watch(service string, named func([]string)) {
	var pauses pauses
	for {
		err := c.listen(c.open, service, func(brokers []string) {
			pauses.reset()
			named(brokers)
		})
		if c.open.Err() != nil {
			break
		}
		c.options.Logger.Info("discovery is not watched", "service", service, "error", err)
		if !pauses.wait(c.open) {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watching--
	if c.client.ctx.Err() != nil {
		c.end(ErrClosed)
	}
	c.endIfDone()
}

func (c *Consumer) listen(ctx context.Context, service string, named func([]string)) error {
	connection, err := c.client.Conn(service)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers, err := mqv1.NewDiscoveryServiceClient(connection).Watch(ctx, &mqv1.WatchRequest{Topic: c.topic})
	if err != nil {
		return err
	}
	for {
		answer, err := answers.Recv()
		if err != nil {
			return err
		}
		var brokers []string
		for _, broker := range answer.Brokers {
			// One without a port is an nsqd.
			if broker.GrpcPort > 0 {
				brokers = append(brokers, net.JoinHostPort(broker.Address, strconv.FormatUint(uint64(broker.GrpcPort), 10)))
			}
		}
		named(brokers)
	}
}
