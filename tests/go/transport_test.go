package gonsq

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// certificate returns flags for TLS with a certificate of the test's own, and the configuration of a client that trusts it.
func certificate(t *testing.T) (flags []string, trust *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	write := func(name, kind string, bytes []byte) string {
		path := filepath.Join(t.TempDir(), name)
		must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600))
		return path
	}
	flags = []string{"-tls-cert", write("cert.pem", "CERTIFICATE", der), "-tls-key", write("key.pem", "PRIVATE KEY", secret)}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return flags, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
}

// options returns go-nsq's settings for a transport.
func options(transport string, trust *tls.Config) map[string]any {
	set := map[string]any{}
	for _, layer := range strings.Fields(transport) {
		if layer == "tls" {
			set["tls_v1"], set["tls_config"] = true, trust
		} else {
			set[layer] = true
		}
	}
	return set
}

func TestTransports(t *testing.T) {
	for _, transport := range []string{"snappy", "deflate", "tls", "tls snappy", "tls deflate"} {
		t.Run(transport, func(t *testing.T) {
			flags, trust := certificate(t)
			address := startBrokerWith(t, flags...).address
			set := options(transport, trust)
			p := producerWith(t, address, set)
			// What no codec makes smaller, and what becomes a thousandth.
			noise := make([]byte, 100_000)
			rand.Read(noise)
			bodies := [][]byte{[]byte("small"), noise, bytes.Repeat([]byte("large"), 20_000), []byte("last")}
			must(t, p.Publish("t", bodies[0]))
			must(t, p.MultiPublish("t", bodies[1:]))
			handler, messages := collect()
			set["max_in_flight"] = 10
			consumer(t, address, "c", set, handler)
			for _, want := range bodies {
				if m := next(t, messages); !bytes.Equal(m.Body, want) {
					t.Fatalf("%d bytes came, not %d", len(m.Body), len(want))
				}
			}
		})
	}
}

// authServer permits everything to who has the secret "hush", and keeps what it was asked.
type authServer struct {
	*httptest.Server
	mutex sync.Mutex
	asked []url.Values
}

func startAuthServer(t *testing.T) *authServer {
	s := &authServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		r.ParseForm()
		s.asked = append(s.asked, r.Form)
		granted := []any{}
		if r.Form.Get("secret") == "hush" {
			granted = append(granted, map[string]any{
				"topic": ".*", "channels": []string{".*"}, "permissions": []string{"subscribe", "publish"}})
		}
		json.NewEncoder(w).Encode(map[string]any{"ttl": 60, "identity": "it", "authorizations": granted})
	}))
	t.Cleanup(s.Close)
	return s
}

func TestAuth(t *testing.T) {
	for _, transport := range []string{"", "tls", "tls snappy"} {
		t.Run(transport, func(t *testing.T) {
			auth := startAuthServer(t)
			flags, trust := certificate(t)
			if transport == "" {
				flags = nil
			} else {
				flags = append(flags, "-tls-required")
			}
			flags = append(flags, "-auth-http-address", auth.Listener.Addr().String())
			address := startBrokerWith(t, flags...).address
			set := options(transport, trust)
			for secret, want := range map[string]string{"wrong": "E_UNAUTHORIZED", "": "Auth Required"} {
				set["auth_secret"] = secret
				if err := producerWith(t, address, set).Publish("t", []byte("x")); err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("%q: %v", secret, err)
				}
			}
			set["auth_secret"] = "hush"
			must(t, producerWith(t, address, set).Publish("t", []byte("x")))
			handler, messages := collect()
			consumer(t, address, "c", set, handler)
			next(t, messages)
			auth.mutex.Lock()
			defer auth.mutex.Unlock()
			last := auth.asked[len(auth.asked)-1]
			if last.Get("remote_ip") != "127.0.0.1" || last.Get("tls") != fmt.Sprint(transport != "") {
				t.Fatalf("asked with %v", last)
			}
		})
	}
}

func TestWithoutTLSNothingIsTakenWhereItIsRequired(t *testing.T) {
	flags, _ := certificate(t)
	address := startBrokerWith(t, append(flags, "-tls-required")...).address
	if err := producer(t, address).Publish("t", []byte("x")); err == nil || !strings.Contains(err.Error(), "TLS required") {
		t.Fatalf("not refused: %v", err)
	}
}
