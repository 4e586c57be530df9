"""An HTTP service that publishes what is posted to it, and answers once it is stored. Standard library only: with
aiohttp or FastAPI it is the same two lines of libmq.

    python libmq_service.py mq://localhost:4150 8080
    curl -d 'one pizza' http://localhost:8080/orders
"""

import asyncio
import signal
import sys

import libmq
import libmq.aio


async def answer(client: libmq.aio.Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    topic = head[0].split()[1].strip("/")
    lengths = [line.split(":")[1] for line in head if line.lower().startswith("content-length:")]
    body = await reader.readexactly(int(lengths[0]) if lengths else 0)
    try:
        async with asyncio.timeout(5):
            receipt = await client.publish(topic, body)
        status, text = "200 OK", f"stored by {receipt.broker}\n"
    except libmq.Invalid as error:
        status, text = "400 Bad Request", f"{error}\n"
    except (libmq.Error, TimeoutError) as error:
        status, text = "503 Service Unavailable", f"{error}\n"
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(text.encode())}\r\nConnection: close\r\n\r\n{text}".encode())
    await writer.drain()
    writer.close()


async def main(url: str, port: int) -> None:
    async with libmq.aio.connect(url) as client:
        server = await asyncio.start_server(lambda r, w: answer(client, r, w), "127.0.0.1", port)
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        async with server:
            await stopped.wait()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
