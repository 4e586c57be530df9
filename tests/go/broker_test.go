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

// broker is a process on a folder that outlives it.
type broker struct {
	t       *testing.T
	data    string
	flags   []string
	address string
	http    string
	process *exec.Cmd
}

// startBroker runs the binary that MQ_BIN names on a free port and a folder of its own, and gives its address.
func startBroker(t *testing.T) string {
	t.Helper()
	return startBrokerWith(t).address
}

func startBrokerWith(t *testing.T, flags ...string) *broker {
	t.Helper()
	b := &broker{t: t, data: filepath.Join(t.TempDir(), "data"), flags: flags, address: "127.0.0.1:0", http: "127.0.0.1:0"}
	b.run()
	t.Cleanup(func() {
		b.process.Process.Signal(syscall.SIGTERM)
		if err := b.process.Wait(); err != nil {
			t.Errorf("SIGTERM is a clean stop: %v", err)
		}
	})
	return b
}

// run starts it, again if it ran before: on the same ports and folder.
func (b *broker) run() {
	b.t.Helper()
	binary := os.Getenv("MQ_BIN")
	if binary == "" {
		b.t.Fatal("MQ_BIN must name the mq binary: run the tests by `cargo xtask test go`")
	}
	args := append([]string{"serve", "-tcp-address", b.address, "-http-address", b.http, "-https-address=", "-grpc-address=", "-data-path", b.data}, b.flags...)
	b.process = exec.Command(binary, args...)
	b.process.Stderr = os.Stderr
	stdout, err := b.process.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.process.Start(); err != nil {
		b.t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	for _, told := range []struct {
		name    string
		address *string
	}{{"tcp ", &b.address}, {"http ", &b.http}} {
		line, err := lines.ReadString('\n')
		address, ok := strings.CutPrefix(strings.TrimSpace(line), told.name)
		if !ok {
			b.t.Fatalf("the broker is not ready: %q %v", line, err)
		}
		*told.address = address
	}
}

// kill is kill -9, and waits until it is gone.
func (b *broker) kill() {
	b.process.Process.Kill()
	b.process.Wait()
}
