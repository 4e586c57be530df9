package mqgrpc_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	mqgrpc "github.com/libmq/libmq/grpc/go"
)

// certificate writes one for 127.0.0.1 that signs itself, and its key, and returns who trusts it.
func certificate(t *testing.T, folder string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed})
	must(t, os.WriteFile(filepath.Join(folder, "cert.pem"), certificate, 0o600))
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	must(t, os.WriteFile(filepath.Join(folder, "key.pem"), private, 0o600))
	must(t, os.WriteFile(filepath.Join(folder, "tokens"), []byte("hush\n"), 0o600))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certificate)
	return pool
}

func TestOverTLSWithAToken(t *testing.T) {
	folder := t.TempDir()
	pool := certificate(t, folder)
	at := func(name string) string { return filepath.Join(folder, name) }
	b := broker(t, "-tls-cert", at("cert.pem"), "-tls-key", at("key.pem"), "-http-auth-token-file", at("tokens"))
	with := func(token string) *mqgrpc.Client {
		return client(t, mqgrpc.WithBrokers(b.address()), mqgrpc.WithTLS(&tls.Config{RootCAs: pool}), mqgrpc.WithToken(token))
	}
	for _, wrong := range []string{"", "loud"} {
		stranger := with(wrong)
		p := publisher(t, stranger, mqgrpc.PublisherOptions{})
		var refused *mqgrpc.Error
		if _, err := p.Publish(soon(t), "t", text("x")); !errors.As(err, &refused) || refused.Code != codes.Unauthenticated {
			t.Fatal(err)
		}
		must(t, p.Close(soon(t)))
		consuming := consumer(t, stranger, succeed, mqgrpc.ConsumerOptions{})
		if err := consuming.Run(soon(t)); !errors.As(err, &refused) || refused.Code != codes.Unauthenticated {
			t.Fatal(err)
		}
	}
	known := with("hush")
	publish(t, known, "x")
	var y tally
	consuming := consumer(t, known, y.handler(succeed), mqgrpc.ConsumerOptions{})
	eventually(t, func() string { return "it is handled" }, func() bool { return y.distinct() == 1 })
	must(t, consuming.Close(soon(t)))
}
