package mqgrpc

import (
	"time"

	"github.com/libmq/libmq/grpc/go/mqv1"
)

const (
	// Limits of every broker.
	headersMax      = 128
	headerBytesMax  = 63 << 10
	headerNameMax   = 255
	messageIDMax    = 255
	messageOverhead = 256
)

// Header is a name and a value that are stored with a message.
type Header struct {
	// Name is 1 to 255 bytes. A name may come more than once.
	Name string
	// Value is any bytes.
	Value []byte
}

// Message is a message to be published. Its bytes must not be changed before there is a result.
type Message struct {
	// Body is what is delivered: at least one byte.
	Body []byte
	// Headers are delivered with it, in order; consumers over NSQ's protocol do not see them.
	Headers []Header
	// ID names the message within the topic: what has the same id as a message before it, within the topic's
	// window of deduplication, is not stored again. At most 255 bytes. Empty: the publisher makes one.
	ID string
	// Delay is how long it is not delivered yet; zero for not at all.
	Delay time.Duration
}

// outgoing is the message as it is sent, and the bytes that count in a batch.
func (m Message) outgoing() (*mqv1.OutgoingMessage, int, error) {
	bytes := len(m.Body)
	switch {
	case bytes == 0:
		return nil, 0, invalid("body", "is empty: a message has at least one byte")
	case len(m.ID) > messageIDMax:
		return nil, 0, invalid("dedup_id", "has %d bytes: at most %d", len(m.ID), messageIDMax)
	case m.Delay < 0:
		return nil, 0, invalid("delay_ms", "is negative")
	case len(m.Headers) > headersMax:
		return nil, 0, invalid("headers", "are %d: at most %d", len(m.Headers), headersMax)
	}
	// Rounded up: never earlier than asked for.
	delay := uint64((m.Delay + time.Millisecond - 1) / time.Millisecond)
	outgoing := &mqv1.OutgoingMessage{Body: m.Body, DedupId: m.ID, DelayMs: delay}
	for _, header := range m.Headers {
		if len(header.Name) == 0 || len(header.Name) > headerNameMax {
			return nil, 0, invalid("headers", "a name has %d bytes: 1 to %d", len(header.Name), headerNameMax)
		}
		bytes += len(header.Name) + len(header.Value)
		outgoing.Headers = append(outgoing.Headers, &mqv1.Header{Name: header.Name, Value: header.Value})
	}
	if bytes-len(m.Body) > headerBytesMax {
		return nil, 0, invalid("headers", "have %d bytes: at most %d", bytes-len(m.Body), headerBytesMax)
	}
	return outgoing, bytes, nil
}

// Delivery is a message that is delivered.
type Delivery struct {
	// Body is what was published.
	Body []byte
	// Headers are in the order they were published in.
	Headers []Header
	// ID is the broker's name for it.
	ID uint64
	// Offset is its place in the topic.
	Offset uint64
	// Timestamp is when it was published, by the broker's clock.
	Timestamp time.Time
	// Attempts is how often it was delivered to this channel, this time included.
	Attempts int
	// Broker is the address of the broker it comes from.
	Broker string
}

// Header is the value of the first header of that name, or nil.
func (d *Delivery) Header(name string) []byte {
	for _, header := range d.Headers {
		if header.Name == name {
			return header.Value
		}
	}
	return nil
}

func delivery(broker string, message *mqv1.ReceivedMessage) *Delivery {
	d := &Delivery{
		Body:      message.Body,
		ID:        message.Id,
		Offset:    message.Offset,
		Timestamp: time.Unix(0, int64(message.TimestampNs)),
		Attempts:  int(message.Attempts),
		Broker:    broker,
	}
	if len(message.Headers) > 0 {
		d.Headers = make([]Header, len(message.Headers))
		for at, header := range message.Headers {
			d.Headers[at] = Header{Name: header.Name, Value: header.Value}
		}
	}
	return d
}
