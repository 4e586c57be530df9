"""An HTTP service that publishes what is posted to it, and answers once it is stored.

    pip install libmq aiohttp
    python libmq_service.py mq://localhost:4150 8080
    curl -d 'one pizza' http://localhost:8080/orders
"""

import asyncio
import sys
from collections.abc import AsyncIterator

import libmq
import libmq.aio
from aiohttp import web

CLIENT = web.AppKey("client", libmq.aio.Client)


async def publish(request: web.Request) -> web.Response:
    client = request.app[CLIENT]
    try:
        receipt = await asyncio.wait_for(client.publish(request.match_info["topic"], await request.read()), timeout=5)
    except libmq.Invalid as error:
        return web.Response(status=400, text=f"{error}\n")
    except (libmq.Error, asyncio.TimeoutError):
        # After a timeout it is withdrawn, or its outcome is unknown: whoever posts again may store it twice.
        return web.Response(status=503, text="not stored; try again\n")
    return web.Response(text=f"stored by {receipt.broker}\n")


def service(url: str) -> web.Application:
    async def connected(app: web.Application) -> AsyncIterator[None]:
        async with libmq.aio.connect(url) as client:
            app[CLIENT] = client
            yield

    app = web.Application()
    app.cleanup_ctx.append(connected)
    app.add_routes([web.post("/{topic}", publish)])
    return app


if __name__ == "__main__":
    _, url, port = sys.argv
    web.run_app(service(url), host="127.0.0.1", port=int(port))
