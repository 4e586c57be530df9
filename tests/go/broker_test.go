// Package gonsq runs go-nsq as its users have it against mq.
package gonsq

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what must come: spent only on failure.
const patience = 20 * time.Second

// startBroker runs the binary that MQ_BIN names on a free port and a folder of its own, and gives its address.
func startBroker(t *testing.T) string {
	t.Helper()
	binary := os.Getenv("MQ_BIN")
	if binary == "" {
		t.Fatal("MQ_BIN must name the mq binary: run the tests by `cargo xtask test go`")
	}
	data := filepath.Join(t.TempDir(), "data")
	broker := exec.Command(binary, "serve", "-tcp-address", "127.0.0.1:0", "-data-path", data)
	broker.Stderr = os.Stderr
	stdout, err := broker.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := broker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		broker.Process.Signal(syscall.SIGTERM)
		if err := broker.Wait(); err != nil {
			t.Errorf("SIGTERM is a clean stop: %v", err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "tcp ")
	if !ok {
		t.Fatalf("the broker is not ready: %q %v", line, err)
	}
	return address
}
