"""A real broker for each test: the binary that MQ_BIN names, on a free port and a folder of its own."""

import http.server
import json
import os
import shutil
import subprocess
import threading
import urllib.parse

import pytest


class Broker:
    """A broker process, on a folder that outlives it."""

    def __init__(self, folder, flags=()):
        self.folder, self.flags = folder, flags
        self.address = self.http = "127.0.0.1:0"
        self.run()

    def run(self):
        """Starts it, again if it ran before: on the same ports and folder."""
        self.process = subprocess.Popen(
            [
                *[os.environ["MQ_BIN"], "serve", "--tcp-address", self.address],
                *["--http-address", self.http, "--https-address=", "--grpc-address=", "--data-path", str(self.folder / "data")],
                *self.flags,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        first = self.process.stdout.readline()
        assert first.startswith("tcp "), f"the broker is not ready: {first!r}"
        self.address = first.split()[1]
        self.http = self.process.stdout.readline().removeprefix("http ").strip()

    def kill(self):
        """kill -9, and gone."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        """SIGTERM must be a clean stop."""
        self.process.terminate()
        assert self.process.wait(timeout=10) == 0, "SIGTERM is a clean stop"


@pytest.fixture
def start_broker(tmp_path):
    """Starts brokers that end with the test."""
    brokers = []

    def start(*flags):
        folder = tmp_path / str(len(brokers))
        folder.mkdir()
        brokers.append(Broker(folder, flags))
        return brokers[-1]

    try:
        yield start
        for broker in brokers:
            broker.stop()
    finally:
        for broker in brokers:
            broker.kill()


class Lookup:
    """A lookup server on free ports."""

    def __init__(self):
        command = [os.environ["MQ_BIN"], "lookup", "--grpc-address=", "--tcp-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        lines = [self.process.stdout.readline() for _ in range(2)]
        assert lines[0].startswith("tcp "), f"the lookup server is not ready: {lines!r}"
        self.tcp, self.http = [line.split()[1] for line in lines]

    def stop(self):
        """SIGTERM must be a clean stop."""
        self.process.terminate()
        assert self.process.wait(timeout=10) == 0, "SIGTERM is a clean stop"
        self.process.stdout.close()


@pytest.fixture
def lookup():
    """A running lookup server."""
    server = Lookup()
    yield server
    server.stop()


class AuthServer:
    """Permits everything to who has one of `secrets`, and keeps what it was asked."""

    def __init__(self, *secrets):
        self.asked = asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                asked.append({key: values[0] for key, values in query.items()})
                allowed = query["secret"][0] in secrets
                everything = {"topic": ".*", "channels": [".*"], "permissions": ["subscribe", "publish"]}
                answer = {"ttl": 60, "identity": "it", "authorizations": [everything] if allowed else []}
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = "127.0.0.1:%d" % self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def auth_server():
    """An auth server that knows the secret "hush"."""
    server = AuthServer("hush")
    yield server
    server.stop()


@pytest.fixture
def tls_flags(tmp_path):
    """Flags for TLS with a certificate of the test's own, in cert.pem of the test's folder."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    new = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    made = ["openssl", *new.split(), "-keyout", key, "-out", cert]
    subprocess.run(made, check=True, capture_output=True)
    return ["--tls-cert", str(cert), "--tls-key", str(key)]


@pytest.fixture
def broker(start_broker):
    """Address of a running broker, as host:port."""
    return start_broker().address
