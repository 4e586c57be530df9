// Package connection is what both examples share: their arguments, and a client of the broker.
package connection

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"os"

	mqgrpc "github.com/libmq/libmq/grpc/go"
)

var (
	address = flag.String("address", "127.0.0.1:4155", "host:port of the broker's gRPC")
	ca      = flag.String("ca", "", "PEM `file` of who signed the broker's certificate; none: no TLS")
	// Topic is the topic.
	Topic = flag.String("topic", "", "the topic")
)

// Client reads the arguments and makes a client, which shows the token in MQ_TOKEN if there is one.
func Client() (*mqgrpc.Client, error) {
	flag.Parse()
	options := []mqgrpc.Option{mqgrpc.WithBrokers(*address), mqgrpc.WithToken(os.Getenv("MQ_TOKEN"))}
	if *ca != "" {
		pem, err := os.ReadFile(*ca)
		if err != nil {
			return nil, err
		}
		signers := x509.NewCertPool()
		if !signers.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate", *ca)
		}
		options = append(options, mqgrpc.WithTLS(&tls.Config{RootCAs: signers}))
	}
	return mqgrpc.NewClient(options...)
}
