"""gunicorn with --preload: the program connects before its workers are forked."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
from pathlib import Path

import libmq
from conftest import Broker

APP = """
import os
import libmq

preloaded = libmq.connect({url!r})
preloaded.publish("t", "master")
own = {{}}

def app(environ, start_response):
    pid = os.getpid()
    try:
        preloaded.send("t", "of the master's client")
    except libmq.Forked:
        pass
    else:
        raise AssertionError("the master's client works in a child")
    if pid not in own:
        own[pid] = libmq.connect({url!r})
    # Not waited for: the end of the worker does.
    own[pid].send("t", str(pid))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Connection", "close")])
    return [str(pid).encode()]
"""


def test_workers_of_a_preloaded_program_publish_on_clients_of_their_own(tmp_path: Path, broker: Broker) -> None:
    (tmp_path / "service.py").write_text(APP.format(url=broker.url))
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers=2", "--bind=127.0.0.1:0", "service:app"]
    gunicorn = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        assert gunicorn.stderr is not None
        log, port = "", None
        while port is None:
            line = gunicorn.stderr.readline()
            assert line, log
            log += line
            port = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", line)
        answers: list[str] = []
        while len(set(answers)) < 2:
            connection = http.client.HTTPConnection("127.0.0.1", int(port[1]), timeout=30)
            connection.request("GET", "/")
            answer = connection.getresponse()
            assert answer.status == 200, gunicorn.stderr.readline()
            answers.append(answer.read().decode())
            connection.close()
        gunicorn.terminate()
        _, rest = gunicorn.communicate(timeout=60)
        assert gunicorn.returncode == 0 and "Traceback" not in rest, rest
    finally:
        gunicorn.kill()
        gunicorn.wait()
    with libmq.connect(broker.url) as client, client.subscribe("t", "c") as subscription:
        texts: list[str] = []
        while len(texts) < len(answers) + 1:
            message = subscription.next(timeout=30)
            assert message is not None, (texts, answers)
            message.finish()
            texts.append(message.text)
        assert sorted(texts) == sorted(["master", *answers])
        assert subscription.next(timeout=0) is None
