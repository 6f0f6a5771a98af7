"""Responses that last: who may have one, and the end of those whose reader left or does not read."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
from collections.abc import AsyncGenerator, Iterator
from typing import TYPE_CHECKING

from iern.runtime.serve.feed import LiveFeed

if TYPE_CHECKING:
    from aiohttp import web
else:
    web = importlib.import_module("aiohttp.web")

MOST_VIEWERS = 64
"""Pages and programs that may watch. More are refused, because each holds a socket and up to one picture."""
SEND_TIMEOUT = 10.0
"""Seconds after which a viewer that does not read is disconnected."""
SEND_BUFFER = 1 << 17
"""Bytes that the system buffers for a viewer. By default it would buffer seconds of old pictures for a slow one."""


def refuse_if_crowded(feed: LiveFeed) -> None:
    """Raise HTTPServiceUnavailable if no more viewers and listeners may watch."""
    if feed.viewers + feed.listeners >= MOST_VIEWERS:
        raise web.HTTPServiceUnavailable(text=f"{MOST_VIEWERS} pages are open already\n")


async def send_parts(request: web.Request, parts: AsyncGenerator[bytes, None], content_type: str) -> web.StreamResponse:
    """Send the parts as they come, until the viewer leaves or stops reading. `parts` is closed then."""
    response = web.StreamResponse(headers={"Content-Type": content_type})
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    with disconnected_if_stuck(request):
        await response.prepare(request)
        async with contextlib.aclosing(parts):
            async for part in parts:
                await asyncio.wait_for(response.write(part), SEND_TIMEOUT)
    return response


@contextlib.contextmanager
def disconnected_if_stuck(request: web.Request) -> Iterator[None]:
    """Cut the connection of a long response at once if its reader left or does not read, or if the server ends.

    An orderly end would wait until the reader has taken all that is buffered for it.
    """
    transport = request.transport
    try:
        yield
    except (ConnectionError, asyncio.TimeoutError, asyncio.CancelledError) as error:
        if transport is not None:
            transport.abort()
        if isinstance(error, asyncio.CancelledError):
            raise
