package gonsq

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// peer is one of NSQ's own programs, which MQ_PEERS names the folder of.
type peer struct {
	// By what it says of each: TCP, HTTP.
	address map[string]string
}

// startPeer runs it until it has said as many addresses as it listens on.
func startPeer(t *testing.T, name string, listens int, args ...string) *peer {
	t.Helper()
	folder := os.Getenv("MQ_PEERS")
	if folder == "" {
		t.Skip("MQ_PEERS names no folder with NSQ's own programs")
	}
	process := exec.Command(filepath.Join(folder, name), args...)
	stderr, err := process.StderrPipe()
	must(t, err)
	must(t, process.Start())
	t.Cleanup(func() {
		process.Process.Kill()
		process.Wait()
	})
	p := &peer{address: map[string]string{}}
	lines := bufio.NewScanner(stderr)
	for len(p.address) < listens && lines.Scan() {
		if before, address, ok := strings.Cut(lines.Text(), ": listening on "); ok {
			p.address[before[strings.LastIndex(before, " ")+1:]] = address
		}
	}
	if len(p.address) < listens {
		t.Fatalf("%s is not ready: %v", name, p.address)
	}
	go io.Copy(io.Discard, stderr)
	return p
}

func startNsqd(t *testing.T, lookupd string) *peer {
	t.Helper()
	return startPeer(t, "nsqd", 2, "-tcp-address", "127.0.0.1:0", "-http-address", "127.0.0.1:0",
		"-broadcast-address", "127.0.0.1", "-data-path", t.TempDir(), "-lookupd-tcp-address", lookupd)
}

// call gives the answer's body, which must be 200's.
func call(t *testing.T, method, url string, body string) string {
	t.Helper()
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	must(t, err)
	response, err := http.DefaultClient.Do(request)
	must(t, err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	must(t, err)
	if response.StatusCode != 200 {
		t.Fatalf("%s %s: %s %s", method, url, response.Status, answer)
	}
	return string(answer)
}

// names gives what /topics or /channels lists.
func names(t *testing.T, url, key string) []string {
	t.Helper()
	var lists map[string][]string
	must(t, json.Unmarshal([]byte(call(t, "GET", url, "")), &lists))
	return lists[key]
}

func TestARealNsqdAtOurLookupServer(t *testing.T) {
	l := startLookup(t)
	nsqd := startNsqd(t, l.tcp)
	ours := announced(t, l.tcp)
	must(t, producer(t, nsqd.address["TCP"]).Publish("t", []byte("nsqd's")))
	l.has("t", 1)
	handler, messages := collect()
	byLookup(t, "t", "c", handler, l)
	if m := next(t, messages); string(m.Body) != "nsqd's" {
		t.Fatalf("%s", m.Body)
	}
	eventually(t, "the channel", func() bool {
		return len(names(t, "http://"+l.http+"/channels?topic=t", "channels")) == 1
	})
	// Ours learns of the channel before the first message passes; and nsqd of one made at ours.
	must(t, producer(t, ours.address).Publish("t", []byte("ours")))
	if m := next(t, messages); string(m.Body) != "ours" {
		t.Fatalf("%s", m.Body)
	}
	l.has("t", 2)
	call(t, "POST", "http://"+ours.http+"/topic/create?topic=u", "")
	call(t, "POST", "http://"+ours.http+"/channel/create?topic=u&channel=d", "")
	eventually(t, "the other channel", func() bool {
		return len(names(t, "http://"+l.http+"/channels?topic=u", "channels")) == 1
	})
	must(t, producer(t, nsqd.address["TCP"]).Publish("u", []byte("x")))
	l.has("u", 2)
	if stats := call(t, "GET", "http://"+nsqd.address["HTTP"]+"/stats?format=json&topic=u", ""); !strings.Contains(stats, `"channel_name":"d"`) {
		t.Fatalf("nsqd did not make the channel: %s", stats)
	}
	// nsqd's UNREGISTER.
	call(t, "POST", "http://"+nsqd.address["HTTP"]+"/topic/delete?topic=u", "")
	l.has("u", 1)
	l.kill()
	l.run()
	// nsqd notices at one command that its connection is gone, and connects at the next: sooner than two pings.
	for poke := range 2 {
		call(t, "POST", fmt.Sprintf("http://%s/topic/create?topic=poke%d", nsqd.address["HTTP"], poke), "")
	}
	l.has("t", 2)
}

func TestOurBrokerAtARealNsqlookupd(t *testing.T) {
	lookupd := startPeer(t, "nsqlookupd", 2, "-tcp-address", "127.0.0.1:0", "-http-address", "127.0.0.1:0",
		"-broadcast-address", "127.0.0.1")
	l := &lookup{t: t, tcp: lookupd.address["TCP"], http: lookupd.address["HTTP"]}
	ours := announced(t, l.tcp)
	nsqd := startNsqd(t, l.tcp)
	must(t, producer(t, ours.address).Publish("t", []byte("ours")))
	l.has("t", 1)
	handler, messages := collect()
	byLookup(t, "t", "c", handler, l)
	next(t, messages)
	must(t, producer(t, nsqd.address["TCP"]).Publish("t", []byte("nsqd's")))
	next(t, messages)
	l.has("t", 2)
	// Elsewhere from now on.
	option := "http://" + ours.http + "/config/nsqlookupd_tcp_addresses"
	if answer := call(t, "PUT", option, "[]"); answer != "[]" {
		t.Fatal(answer)
	}
	l.has("t", 1)
	call(t, "PUT", option, `["`+l.tcp+`"]`)
	l.has("t", 2)
	ours.kill()
	l.has("t", 1)
	ours.run()
	l.has("t", 2)
}

func TestARealNsqadminReadsBoth(t *testing.T) {
	l := startLookup(t)
	lookupd := startPeer(t, "nsqlookupd", 2, "-tcp-address", "127.0.0.1:0", "-http-address", "127.0.0.1:0")
	real := &lookup{t: t, http: lookupd.address["HTTP"]}
	a, b := announced(t, l.tcp, lookupd.address["TCP"]), announced(t, l.tcp)
	for _, broker := range []*broker{a, b} {
		must(t, producer(t, broker.address).Publish("t", []byte("x")))
	}
	l.has("t", 2)
	real.has("t", 1)
	handler, messages := collect()
	byLookup(t, "t", "c", handler, l)
	next(t, messages)
	next(t, messages)
	admin := startPeer(t, "nsqadmin", 1, "-http-address", "127.0.0.1:0",
		"-lookupd-http-address", l.http, "-lookupd-http-address", real.http)
	api := "http://" + admin.address["HTTP"] + "/api"
	nodes := call(t, "GET", api+"/nodes", "")
	for _, port := range []string{a.http, b.http} {
		if _, port, _ := strings.Cut(port, ":"); !strings.Contains(nodes, `"http_port":`+port) {
			t.Fatalf("%s is not in %s", port, nodes)
		}
	}
	topic := call(t, "GET", api+"/topics/t", "")
	if !strings.Contains(topic, `"channel_name":"c"`) || !strings.Contains(topic, `"message_count":2`) {
		t.Fatal(topic)
	}
	// It tombstones at both lookup servers, then deletes at the broker.
	node := strings.TrimPrefix(a.http, "http://")
	call(t, "DELETE", api+"/nodes/"+node, `{"topic":"t"}`)
	l.has("t", 1)
	real.has("t", 0)
	call(t, "DELETE", api+"/topics/t", "")
	if topics := names(t, "http://"+l.http+"/topics", "topics"); len(topics) != 0 {
		t.Fatal(topics)
	}
}
