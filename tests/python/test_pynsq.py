"""pynsq as its users have it, against mq."""

import asyncio
import functools
import os
import time
import urllib.request

import nsq
import pytest

# Spent only on failure; pynsq itself waits 15 s before it connects again.
PATIENCE_S = 60


def timed(test):
    """Runs an async test on a loop of its own, within PATIENCE_S."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), PATIENCE_S))

    return run


class Writer(nsq.Writer):
    """A Writer with an event for its connection, and answers that can be awaited."""

    def __init__(self, address, **options):
        super().__init__([address], **options)
        self.ready = asyncio.get_running_loop().create_future()
        self.refusal = asyncio.get_running_loop().create_future()

    def _on_connection_ready(self, conn, **kwargs):
        super()._on_connection_ready(conn, **kwargs)
        self.ready.set_result(None)

    def _on_connection_error(self, conn, error, **kwargs):
        super()._on_connection_error(conn, error, **kwargs)
        if not self.refusal.done():
            self.refusal.set_result(error)

    async def ask(self, command, *args):
        """Sends and gives what the broker answered."""
        await self.ready
        answer = asyncio.get_running_loop().create_future()
        sent = command(*args, callback=lambda conn, data: answer.set_result(data))
        await sent
        return await answer


class Reader(nsq.Reader):
    """A Reader with an event for its SUB, which keeps the messages it gave up."""

    def __init__(self, address, topic, channel, handler, **options):
        super().__init__(topic, channel, handler, nsqd_tcp_addresses=[address], **options)
        self.ready = asyncio.get_running_loop().create_future()
        self.given_up = asyncio.get_running_loop().create_future()

    def _on_connection_ready(self, conn, **kwargs):
        super()._on_connection_ready(conn, **kwargs)
        self.ready.set_result(None)

    def giving_up(self, message):
        self.given_up.set_result((bytes(message.body), message.attempts))


@timed
async def test_pub_and_mpub_arrive_in_order(broker):
    writer = Writer(broker)
    assert await writer.ask(writer.pub, "t", b"one") == b"OK"
    assert await writer.ask(writer.mpub, "t", [b"two", b"three", "grüße".encode(), b"\x00\xff\n"]) == b"OK"
    bodies, done = [], asyncio.Event()

    def handler(message):
        assert message.attempts == 1
        assert abs(message.timestamp - time.time_ns()) < 60e9
        bodies.append(bytes(message.body))
        if len(bodies) == 5:
            done.set()
        return True

    reader = Reader(broker, "t", "c", handler)
    await done.wait()
    assert bodies == [b"one", b"two", b"three", "grüße".encode(), b"\x00\xff\n"]
    reader.close()


@timed
async def test_dpub_waits(broker):
    writer = Writer(broker)
    arrived = asyncio.get_running_loop().create_future()

    def handler(message):
        arrived.set_result((bytes(message.body), time.monotonic()))
        return True

    reader = Reader(broker, "t", "c", handler)
    await reader.ready
    published = time.monotonic()
    assert await writer.ask(writer.dpub, "t", 400, b"later") == b"OK"
    body, at = await arrived
    assert body == b"later"
    assert 0.4 <= at - published < 1.0
    reader.close()


@timed
async def test_refusals_reach_the_callback(broker):
    for command, args in [
        ("pub", ("bad!topic", b"x")),
        ("pub", ("t", b"x" * (1024 * 1024 + 1))),
        ("dpub", ("t", 3_600_001, b"x")),
    ]:
        writer = Writer(broker)
        answer = await writer.ask(getattr(writer, command), *args)
        assert isinstance(answer, nsq.Error), f"{command} was answered {answer!r}"


@timed
async def test_a_large_message_is_whole(broker):
    writer = Writer(broker)
    body = bytes(range(256)) * 4096
    assert await writer.ask(writer.pub, "t", body) == b"OK"
    arrived = asyncio.get_running_loop().create_future()
    reader = Reader(broker, "t", "c", lambda message: arrived.set_result(bytes(message.body)) or True)
    assert await arrived == body
    reader.close()


@timed
async def test_connections_share_a_channel_and_each_channel_gets_all(broker):
    count = 60
    bodies = [str(n).encode() for n in range(count)]
    shared, other, done = [[], [], []], [], asyncio.Event()

    def check():
        if sum(map(len, shared)) >= count and len(other) >= count:
            done.set()

    async def handle(into, message):
        into.append(bytes(message.body))
        # The others get their share while this one is at work.
        await asyncio.sleep(0.005)
        check()
        return True

    readers = [Reader(broker, "t", "shared", functools.partial(handle, into)) for into in shared]
    readers.append(Reader(broker, "t", "other", functools.partial(handle, other), max_in_flight=10))
    await asyncio.gather(*(reader.ready for reader in readers))
    writer = Writer(broker)
    assert await writer.ask(writer.mpub, "t", bodies) == b"OK"
    await done.wait()
    assert sorted(sum(shared, [])) == sorted(bodies), "each once"
    assert all(shared), "each connection had some"
    assert other == bodies
    for reader in readers:
        reader.close()


@timed
async def test_requeues_count_attempts_until_it_is_given_up(broker):
    writer = Writer(broker)
    assert await writer.ask(writer.pub, "t", b"poison") == b"OK"
    attempts = []

    async def handler(message):
        attempts.append(message.attempts)
        message.enable_async()
        message.requeue(backoff=False, delay=0)

    reader = Reader(broker, "t", "c", handler, max_tries=3)
    assert await reader.given_up == (b"poison", 4)
    assert attempts == [1, 2, 3]
    reader.close()


@timed
async def test_a_requeue_waits_its_delay_and_others_pass(broker):
    writer = Writer(broker)
    assert await writer.ask(writer.mpub, "t", [b"first", b"second"]) == b"OK"
    seen, done = [], asyncio.Event()

    def handler(message):
        seen.append((bytes(message.body), message.attempts, time.monotonic()))
        if len(seen) == 1:
            message.enable_async()
            message.requeue(backoff=False, time_ms=500)
            return None
        if len(seen) == 3:
            done.set()
        return True

    reader = Reader(broker, "t", "c", handler)
    await done.wait()
    assert [(body, attempts) for body, attempts, _ in seen] == [(b"first", 1), (b"second", 1), (b"first", 2)]
    assert 0.5 <= seen[2][2] - seen[0][2] < 1.2
    reader.close()


@pytest.mark.parametrize("touched", [False, True])
@timed
async def test_a_message_times_out_unless_it_is_touched(broker, touched):
    timeout_s = 1.0  # The shortest a client may ask for.
    writer = Writer(broker)
    assert await writer.ask(writer.pub, "t", b"slow") == b"OK"
    attempts, began, done = [], time.monotonic(), asyncio.Event()

    async def work(message):
        for _ in range(4):
            await asyncio.sleep(timeout_s / 2)
            message.touch()
        message.finish()
        done.set()

    def handler(message):
        attempts.append(message.attempts)
        if len(attempts) == 2:
            done.set()
            return True
        message.enable_async()
        if touched:
            tasks.append(asyncio.create_task(work(message)))
        return None

    tasks = []
    reader = Reader(broker, "t", "c", handler, msg_timeout=timeout_s)
    await done.wait()
    assert attempts == ([1] if touched else [1, 2])
    assert time.monotonic() - began >= timeout_s * (2 if touched else 1)
    reader.close()


def post(broker, path):
    """Has something done by HTTP."""
    urllib.request.urlopen(f"http://{broker.http}{path}", data=b"", timeout=PATIENCE_S).close()


@timed
async def test_a_paused_channel_delivers_nothing(start_broker):
    broker = start_broker()
    got = asyncio.Queue()
    reader = Reader(
        broker.address, "t", "c", lambda message: got.put_nowait(bytes(message.body)) or True
    )
    writer = Writer(broker.address)
    assert await writer.ask(writer.pub, "t", b"before") == b"OK"
    assert await got.get() == b"before"
    await asyncio.to_thread(post, broker, "/channel/pause?topic=t&channel=c")
    assert await writer.ask(writer.pub, "t", b"held") == b"OK"
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(got.get(), 0.2)
    await asyncio.to_thread(post, broker, "/channel/unpause?topic=t&channel=c")
    assert await got.get() == b"held"
    reader.close()


@timed
async def test_a_reader_comes_back_after_kill_9(start_broker):
    broker = start_broker()
    bodies, arrived = [], asyncio.Queue()

    def handler(message):
        bodies.append(bytes(message.body))
        arrived.put_nowait(None)
        return True

    reader = nsq.Reader("t", "c", handler, nsqd_tcp_addresses=[broker.address])
    writer = Writer(broker.address)
    assert await writer.ask(writer.pub, "t", b"before") == b"OK"
    await arrived.get()
    broker.kill()
    broker.run()
    writer = Writer(broker.address)
    assert await writer.ask(writer.pub, "t", b"after") == b"OK"
    while bodies[-1] != b"after":
        await arrived.get()
    assert set(bodies) == {b"before", b"after"}
    reader.close()


@timed
async def test_a_backlog_larger_than_memory_arrives_whole_and_in_order(start_broker):
    batches, size, pad = 16, 128, 16 << 10
    address = start_broker("--memory-limit", "8MiB").address
    writer = Writer(address)
    for batch in range(batches):
        bodies = [str(batch * size + n).encode().ljust(pad) for n in range(size)]
        assert await writer.ask(writer.mpub, "t", bodies) == b"OK"
    got, done = [], asyncio.Event()

    def handler(message):
        got.append(int(message.body))
        if len(got) == batches * size:
            done.set()
        return True

    reader = Reader(address, "t", "c", handler, max_in_flight=100)
    await done.wait()
    assert got == list(range(batches * size))
    reader.close()


TRANSPORTS = ["snappy", "deflate", "tls", "tls snappy", "tls deflate"]


def options_of(transport, tmp_path):
    """Settings of pynsq for a transport; for TLS it checks the certificate."""
    options = {word: True for word in transport.split() if word != "tls"}
    if "tls" in transport:
        options |= {"tls_v1": True, "tls_options": {"ca_certs": str(tmp_path / "cert.pem")}}
    return options


@pytest.mark.parametrize("transport", TRANSPORTS)
@timed
async def test_transports(start_broker, tls_flags, tmp_path, transport):
    address = start_broker(*tls_flags).address
    options = options_of(transport, tmp_path)
    writer = Writer(address, **options)
    # What no codec makes smaller, and what becomes a thousandth.
    bodies = [b"small", os.urandom(100_000), b"large" * 20_000, b"last"]
    assert await writer.ask(writer.pub, "t", bodies[0]) == b"OK"
    assert await writer.ask(writer.mpub, "t", bodies[1:]) == b"OK"
    got, done = [], asyncio.Event()

    def handler(message):
        got.append(bytes(message.body))
        if len(got) == len(bodies):
            done.set()
        return True

    reader = Reader(address, "t", "c", handler, max_in_flight=10, **options)
    await done.wait()
    assert got == bodies
    reader.close()


@pytest.mark.parametrize("transport", ["", "tls", "tls deflate"])
@timed
async def test_auth(start_broker, auth_server, tls_flags, tmp_path, transport):
    flags = ["--auth-http-address", auth_server.address]
    if transport:
        flags += [*tls_flags, "--tls-required"]
    address = start_broker(*flags).address
    options = options_of(transport, tmp_path)
    writer = Writer(address, auth_secret="hush", **options)
    assert await writer.ask(writer.pub, "t", b"x") == b"OK"
    arrived = asyncio.get_running_loop().create_future()
    reader = Reader(
        address, "t", "c", lambda message: arrived.set_result(bytes(message.body)) or True,
        auth_secret="hush", **options,
    )
    assert await arrived == b"x"
    tls = "true" if transport else "false"
    assert auth_server.asked == 2 * [{"remote_ip": "127.0.0.1", "secret": "hush", "tls": tls}]
    reader.close()

    refused = Writer(address, auth_secret="wrong", **options)
    assert "E_UNAUTHORIZED" in str(await refused.refusal)
    silent = Writer(address, **options)
    assert "E_AUTH_FIRST" in str(await silent.ask(silent.pub, "t", b"x"))


@timed
async def test_without_tls_nothing_is_taken_where_it_is_required(start_broker, tls_flags):
    writer = Writer(start_broker(*tls_flags, "--tls-required").address)
    assert "TLS required" in str(await writer.ask(writer.pub, "t", b"x"))


@timed
async def test_brokers_are_found_by_lookup(start_broker, lookup):
    brokers = [start_broker("--lookupd-tcp-address", lookup.tcp) for _ in range(2)]
    received, grown = set(), asyncio.Condition()

    async def handler(message):
        received.add(message.body)
        async with grown:
            grown.notify_all()
        return True

    async def has(*bodies):
        async with grown:
            await grown.wait_for(lambda: received >= set(bodies))

    for n, broker in enumerate(brokers):
        writer = Writer(broker.address)
        assert await writer.ask(writer.pub, "t", b"first of %d" % n) == b"OK"
    options = {"lookupd_poll_interval": 1, "lookupd_poll_jitter": 0.0, "max_in_flight": 10}
    reader = nsq.Reader("t", "c", handler, lookupd_http_addresses=[lookup.http], **options)
    try:
        await has(b"first of 0", b"first of 1")
        # One that is killed is found again where it comes back; one that is new is found with the next poll.
        brokers[0].kill()
        brokers[0].run()
        brokers.append(start_broker("--lookupd-tcp-address", lookup.tcp))
        for n, broker in enumerate(brokers):
            writer = Writer(broker.address)
            assert await writer.ask(writer.pub, "t", b"second of %d" % n) == b"OK"
        await has(b"second of 0", b"second of 1", b"second of 2")
    finally:
        reader.close()
