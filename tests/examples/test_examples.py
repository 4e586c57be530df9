"""The examples as their users run them, against the real binary and with each other."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).parents[2]
BUILT = pathlib.Path(os.environ["MQ_EXAMPLES_FOLDER"])
# Spent only on failure.
PATIENCE_S = 60

COMMANDS = {
    "python": lambda name: [sys.executable, ROOT / f"examples/python/{name}.py"],
    "asyncio": lambda name: [sys.executable, ROOT / f"examples/python/{name}_asyncio.py"],
    "node": lambda name: ["node", ROOT / f"examples/node/{name}.js"],
    "go": lambda name: [BUILT / "go" / name],
    "java": lambda name: [
        *["java", "-XX:TieredStopAtLevel=1", "-cp", f"{BUILT}/java/classes:{BUILT}/java/lib/*"],
        f"libmq.example.{name.capitalize()}",
    ],
    "rust": lambda name: [pathlib.Path(os.environ["MQ_BIN"]).with_name(name)],
}
LANGUAGES = os.environ["MQ_EXAMPLES"].split()
each_language = pytest.mark.parametrize("language", LANGUAGES)


class Broker:
    """The binary that MQ_BIN names, on a free port and a folder that outlives it."""

    def __init__(self, folder, flags):
        self.folder, self.flags, self.address = folder, flags, "127.0.0.1:0"
        self.run()

    def run(self):
        """Starts it, again if it ran before: on the same port and folder."""
        command = [os.environ["MQ_BIN"], "serve", "--tcp-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"]
        command += ["--https-address=", "--grpc-address", self.address, "--data-path", self.folder / "data"]
        self.process = subprocess.Popen([*command, *self.flags], stdout=subprocess.PIPE, text=True)
        lines = [self.process.stdout.readline() for _ in range(3)]
        assert lines[2].startswith("grpc "), f"the broker is not ready: {lines!r}"
        self.http, self.address = lines[1].split()[1], lines[2].split()[1]

    def emptied(self):
        """Waits until everything in the only channel is finished."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with urllib.request.urlopen(f"http://{self.http}/stats?format=json") as answer:
                [channel] = json.load(answer)["topics"][0]["channels"]
            left = [channel[name] for name in ("depth", "in_flight_count", "deferred_count")]
            if not any(left):
                return
            assert time.monotonic() < deadline, f"waiting, in flight and deferred are left: {left}"
            time.sleep(0.01)

    def kill(self):
        """kill -9, and gone."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        """SIGTERM must be a clean stop."""
        self.process.terminate()
        assert self.process.wait(timeout=10) == 0, "SIGTERM is a clean stop"


class Programs:
    """A broker, and the examples that run with it."""

    def __init__(self, folder):
        self.folder, self.broker, self.workers = folder, None, []

    def serve(self, *flags):
        """Starts the broker."""
        self.broker = Broker(self.folder, flags)

    def publish(self, language, lines, topic="t", more=(), **environment):
        """Runs a publisher to its end. Returns its exit code and what it complained of."""
        command = [*COMMANDS[language]("publisher"), "--address", self.broker.address, "--topic", topic, *more]
        text = "".join(line + "\n" for line in lines)
        options = {"capture_output": True, "text": True, "timeout": PATIENCE_S}
        ended = subprocess.run(command, input=text, env={**os.environ, **environment}, **options)
        return ended.returncode, ended.stderr

    def work(self, language, *more, **environment):
        """Starts a worker."""
        self.workers.append(Worker(self, language, more, environment))
        return self.workers[-1]


class Worker:
    """A worker that runs, its output in files."""

    def __init__(self, programs, language, more, environment):
        name = f"worker-{len(programs.workers)}"
        self.out, self.err = programs.folder / f"{name}.out", programs.folder / f"{name}.err"
        command = [*COMMANDS[language]("worker"), "--address", programs.broker.address, *more]
        command += ["--topic", "t", "--channel", "c"]
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, **environment})

    def lines(self):
        """What it has printed so far."""
        return self.out.read_text().splitlines()

    def printed(self, line):
        """Waits until it has printed a line."""
        deadline = time.monotonic() + PATIENCE_S
        while line not in self.lines():
            assert time.monotonic() < deadline, f"{line!r} was not printed: {self.err.read_text()}"
            assert self.process.poll() is None, f"it ended: {self.err.read_text()}"
            time.sleep(0.01)

    def ended(self):
        """Waits for its end. Returns its exit code."""
        return self.process.wait(timeout=PATIENCE_S)


@pytest.fixture
def programs(tmp_path):
    """What a test runs; all of it ends with the test."""
    programs = Programs(tmp_path)
    try:
        yield programs
        programs.broker.stop()
    finally:
        for worker in programs.workers:
            worker.process.kill()
            worker.process.wait()
        if programs.broker:
            programs.broker.kill()


# Each to itself, and each to the next.
PAIRS = [(one, LANGUAGES[(at + step) % len(LANGUAGES)]) for at, one in enumerate(LANGUAGES) for step in (0, 1)]


@pytest.mark.parametrize("publisher,worker", sorted(set(PAIRS)))
def test_what_one_publishes_the_other_prints_once(programs, publisher, worker):
    programs.serve()
    lines = [f"message {n}" for n in range(999)] + ["fail-once"]
    code, said = programs.publish(publisher, lines)
    assert (code, said) == (0, "published 1000 messages\n")
    running = programs.work(worker, "--count", "1000")
    assert running.ended() == 0, running.err.read_text()
    assert sorted(running.lines()) == sorted(lines)
    assert running.err.read_text().count("this one fails at its first attempt") == 1


@each_language
def test_a_signal_ends_a_worker_and_what_it_has_returns(programs, language):
    programs.serve()
    running = programs.work(language)
    assert programs.publish(language, ["first", "fail-once"])[0] == 0
    running.printed("first")
    running.process.send_signal(signal.SIGTERM)
    # A Java VM always says what ended it.
    assert running.ended() == (143 if language == "java" else 0), running.err.read_text()
    rest = [] if "fail-once" in running.lines() else ["fail-once"]
    assert programs.publish(language, ["last"])[0] == 0
    other = programs.work(language, "--count", str(1 + len(rest)))
    assert other.ended() == 0, other.err.read_text()
    assert sorted(other.lines()) == sorted(rest + ["last"])


@each_language
def test_a_worker_goes_on_after_kill_9(programs, language):
    programs.serve()
    running = programs.work(language)
    assert programs.publish(language, ["before"])[0] == 0
    running.printed("before")
    programs.broker.kill()
    programs.broker.run()
    assert programs.publish(language, ["after"])[0] == 0
    running.printed("after")
    assert set(running.lines()) == {"before", "after"}


@each_language
def test_a_refusal_is_told(programs, language):
    programs.serve()
    code, said = programs.publish(language, ["x"], topic="no good")
    assert code == 1
    assert said.startswith("publisher: 0 messages are stored, then: ") and '"no good" is not valid' in said


@each_language
def test_over_tls_with_a_token(programs, language):
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate")
    key, cert, tokens = [programs.folder / name for name in ("key.pem", "cert.pem", "tokens")]
    new = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    # Who signs itself is no authority.
    new += " -addext basicConstraints=critical,CA:FALSE"
    subprocess.run(["openssl", *new.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    tokens.write_text("hush\n")
    programs.serve("--tls-cert", cert, "--tls-key", key, "--http-auth-token-file", tokens)
    code, said = programs.publish(language, ["x"], more=["--ca", cert])
    assert code == 1 and "authorization" in said
    code, said = programs.publish(language, ["x"], more=["--ca", cert], MQ_TOKEN="hush")
    assert code == 0, said
    running = programs.work(language, "--ca", str(cert), "--count", "1", MQ_TOKEN="hush")
    assert running.ended() == 0, running.err.read_text()
    assert running.lines() == ["x"]


@pytest.mark.skipif("node" not in LANGUAGES, reason="no node")
def test_the_node_example_runs_outside_the_checkout(programs):
    programs.serve()
    copy = programs.folder / "project"
    shutil.copytree(ROOT / "examples/node", copy, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run([os.environ["MQ_BIN"], "proto", "--out", copy / "protos"], check=True, capture_output=True)
    command = ["node", copy / "publisher.js", "--address", programs.broker.address, "--topic", "t"]
    ended = subprocess.run(command, input="x\n", capture_output=True, text=True, timeout=PATIENCE_S)
    assert (ended.returncode, ended.stderr) == (0, "published 1 messages\n")


@pytest.mark.skipif("go" not in LANGUAGES, reason="no go")
def test_the_go_example_runs_outside_the_checkout(programs):
    programs.serve()
    shutil.copytree(ROOT / "examples/go", programs.folder / "project")
    shutil.copytree(ROOT / "grpc/go", programs.folder / "mqgrpc")
    module = "github.com/libmq/libmq/grpc/go"
    for command in (
        ["go", "mod", "edit", f"-replace={module}={programs.folder / 'mqgrpc'}"],
        ["go", "build", "-o", programs.folder / "go-publisher", "./publisher"],
    ):
        subprocess.run(command, cwd=programs.folder / "project", check=True, capture_output=True)
    command = [programs.folder / "go-publisher", "--address", programs.broker.address, "--topic", "t"]
    ended = subprocess.run(command, input="x\n", capture_output=True, text=True, timeout=PATIENCE_S)
    assert (ended.returncode, ended.stderr) == (0, "published 1 messages\n")


@each_language
def test_a_worker_with_more_messages_than_it_can_do_gives_the_rest_back_unseen(programs, language):
    programs.serve()
    # Many times what a worker has in flight, so that its end leaves some.
    published = [f"message {n}" for n in range(2000)]
    assert programs.publish(language, published)[0] == 0
    running = programs.work(language, "--count", "1")
    assert running.ended() == 0, running.err.read_text()
    # What was at work at the same time, or was begun while the worker learned that it is to end.
    seen = running.lines()
    # None of the others comes twice or waits. A worker that is to do 0 messages would run for ever.
    if len(seen) < len(published):
        other = programs.work(language, "--count", str(len(published) - len(seen)))
        assert other.ended() == 0, other.err.read_text()
        seen += other.lines()
    assert sorted(seen) == sorted(published)


# The others give themselves credit, by what their handlers can do.
TAKE_CREDIT = [language for language in ("rust", "python", "asyncio", "node") if language in LANGUAGES]


@pytest.mark.parametrize("language", TAKE_CREDIT)
def test_a_worker_with_more_in_flight_than_its_timeout_lets_it_do_works_on_each_message_once(programs, language):
    programs.serve("--msg-timeout", "2s")
    # 20 ms each, so that the last of 256 waits for 5 s where they are worked on one after the other.
    published = [f"slow {n}" for n in range(400)]
    assert programs.publish(language, published)[0] == 0
    running = programs.work(language, "--credit", "256")
    # What comes again comes behind all the others.
    running.printed(published[-1])
    programs.broker.emptied()
    assert sorted(running.lines()) == sorted(published)
