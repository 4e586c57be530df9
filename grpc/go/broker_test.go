package mqgrpc_test

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	mqgrpc "github.com/libmq/libmq/grpc/go"
	"github.com/libmq/libmq/grpc/go/mqv1"
)

// patience is how long a test waits for what must come: spent only on failure.
const patience = 60 * time.Second

// process is a server of the binary that MQ_BIN names, on a folder and a port that outlive it.
type process struct {
	t         testing.TB
	arguments []string
	addresses map[string]string
	command   *exec.Cmd
}

// broker starts one on a free port.
func broker(t testing.TB, flags ...string) *process {
	t.Helper()
	arguments := append([]string{"serve", "-data-path", filepath.Join(t.TempDir(), "data"), "-https-address="}, flags...)
	return start(t, arguments, map[string]string{"tcp": "127.0.0.1:0", "http": "127.0.0.1:0", "grpc": "127.0.0.1:0"})
}

// lookup starts a discovery service on free ports.
func lookup(t testing.TB) *process {
	t.Helper()
	return start(t, []string{"lookup"}, map[string]string{"tcp": "127.0.0.1:0", "http": "127.0.0.1:0", "grpc": "127.0.0.1:0"})
}

func start(t testing.TB, arguments []string, addresses map[string]string) *process {
	t.Helper()
	p := &process{t: t, arguments: arguments, addresses: addresses}
	p.run()
	t.Cleanup(func() {
		if p.command == nil {
			return
		}
		p.command.Process.Signal(syscall.SIGTERM)
		if err := p.command.Wait(); err != nil {
			t.Errorf("SIGTERM is a clean stop: %v", err)
		}
	})
	return p
}

// run starts it, again if it ran before: on the same ports and folder.
func (p *process) run() {
	p.t.Helper()
	binary := os.Getenv("MQ_BIN")
	if binary == "" {
		p.t.Fatal("MQ_BIN must name the mq binary: run the tests by `cargo xtask test go`")
	}
	arguments := append(slices.Clone(p.arguments), "-log-level", "warn")
	for name, address := range p.addresses {
		arguments = append(arguments, "-"+name+"-address", address)
	}
	p.command = exec.Command(binary, arguments...)
	p.command.Stderr = os.Stderr
	stdout, err := p.command.StdoutPipe()
	must(p.t, err)
	must(p.t, p.command.Start())
	lines := bufio.NewReader(stdout)
	for range p.addresses {
		line, err := lines.ReadString('\n')
		name, address, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			p.t.Fatalf("the server is not ready: %q %v", line, err)
		}
		p.addresses[name] = address
	}
}

// kill is kill -9, and waits until it is gone.
func (p *process) kill() {
	p.command.Process.Kill()
	p.command.Wait()
	p.command = nil
}

func (p *process) address() string { return p.addresses["grpc"] }

// client makes a client that is closed with the test, and then leaves no goroutine.
func client(t testing.TB, options ...mqgrpc.Option) *mqgrpc.Client {
	t.Helper()
	client, err := mqgrpc.NewClient(options...)
	must(t, err)
	t.Cleanup(func() {
		must(t, client.Close())
		// A test that failed leaves handlers behind, which is of no interest.
		if !t.Failed() {
			leavesNothing(t)
		}
	})
	return client
}

// leavesNothing waits until no goroutine of the client is left.
func leavesNothing(t testing.TB) {
	t.Helper()
	left := ""
	eventually(t, func() string { return "goroutines end:\n" + left }, func() bool {
		left = stacks("libmq/grpc/go.(")
		return left == ""
	})
}

// stacks are those of goroutines in which something is.
func stacks(something string) string {
	var all, found strings.Builder
	pprof.Lookup("goroutine").WriteTo(&all, 1)
	for _, stack := range strings.Split(all.String(), "\n\n") {
		if strings.Contains(stack, something) {
			found.WriteString(stack + "\n")
		}
	}
	return found.String()
}

func eventually(t testing.TB, what func() string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for: %s", patience, what())
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// soon is a context that ends a test that hangs.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func publisher(t testing.TB, client *mqgrpc.Client, options mqgrpc.PublisherOptions) *mqgrpc.Publisher {
	t.Helper()
	publisher, err := client.NewPublisher(options)
	must(t, err)
	return publisher
}

func text(body string) mqgrpc.Message { return mqgrpc.Message{Body: []byte(body)} }

// statistics are a topic's.
func statistics(t testing.TB, client *mqgrpc.Client, address, topic string) *mqv1.TopicStats {
	t.Helper()
	connection, err := client.Conn(address)
	must(t, err)
	stub := mqv1.NewAdminServiceClient(connection)
	answer, err := stub.GetStats(soon(t), &mqv1.GetStatsRequest{Topic: topic}, grpc.WaitForReady(true))
	must(t, err)
	if len(answer.Topics) == 0 {
		return &mqv1.TopicStats{}
	}
	return answer.Topics[0]
}

// fake is a broker that answers as a test says.
type fake struct {
	mqv1.UnimplementedPublishServiceServer
	address string
	server  *grpc.Server
	window  *mqv1.PublishWindow

	mu sync.Mutex
	// Decides on a batch; nil: no answer. An error ends the stream.
	decide  func(*mqv1.PublishStreamRequest) (*mqv1.PublishResult, error)
	batches []*mqv1.PublishStreamRequest
}

func fakeBroker(t testing.TB, decide func(*mqv1.PublishStreamRequest) (*mqv1.PublishResult, error)) *fake {
	t.Helper()
	f := &fake{decide: decide, window: &mqv1.PublishWindow{Batches: 100, Messages: 10_000, Bytes: 1 << 20}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	f.address, f.server = listener.Addr().String(), grpc.NewServer()
	mqv1.RegisterPublishServiceServer(f.server, f)
	go f.server.Serve(listener)
	t.Cleanup(f.server.Stop)
	return f
}

func (f *fake) PublishStream(stream grpc.BidiStreamingServer[mqv1.PublishStreamRequest, mqv1.PublishStreamResponse]) error {
	first := &mqv1.PublishStreamResponse{Response: &mqv1.PublishStreamResponse_Window{Window: f.window}}
	if err := stream.Send(first); err != nil {
		return err
	}
	for {
		request, err := stream.Recv()
		if err != nil {
			return nil
		}
		f.mu.Lock()
		f.batches = append(f.batches, request)
		result, err := f.decide(request)
		f.mu.Unlock()
		if err != nil {
			return err
		}
		if result == nil {
			continue
		}
		result.Correlation = request.Correlation
		results := &mqv1.PublishResults{Results: []*mqv1.PublishResult{result}}
		if err := stream.Send(&mqv1.PublishStreamResponse{Response: &mqv1.PublishStreamResponse_Results{Results: results}}); err != nil {
			return err
		}
	}
}

// set changes what it decides by.
func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// seen are the batches so far.
func (f *fake) seen() []*mqv1.PublishStreamRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*mqv1.PublishStreamRequest(nil), f.batches...)
}

func stored(request *mqv1.PublishStreamRequest) *mqv1.PublishResult {
	offsets := []*mqv1.OffsetRange{{First: 100 * request.Correlation, Count: uint32(len(request.Messages))}}
	return &mqv1.PublishResult{Result: &mqv1.PublishResult_Stored{Stored: &mqv1.PublishStored{Offsets: offsets}}}
}

func refused(failure *mqv1.Failure) *mqv1.PublishResult {
	return &mqv1.PublishResult{Result: &mqv1.PublishResult_Failure{Failure: failure}}
}
