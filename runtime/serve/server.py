"""The page's server: a thread with an event loop of its own, for as long as a block runs.

`with serving(parse_address("8080")) as sink: ...` and `sink(view)` for every view.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import secrets
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

from iern.runtime.errors import IernError, OutputError
from iern.runtime.outputs.frame_result import FrameResult, Sink
from iern.runtime.serve.address import Address
from iern.runtime.serve.controls import Controls
from iern.runtime.serve.feed import Feed, Picture

if TYPE_CHECKING:
    from aiohttp import web

    from iern.runtime.serve.meter import Meter
    from iern.runtime.serve.routes import Routes

STALLED_AFTER = 10.0
"""Seconds without a frame after which /healthz fails."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class _Server:
    """What was started, in the order in which it is stopped."""

    runner: web.AppRunner
    feed: Feed
    routes: Routes
    meter: Meter
    address: Address


@contextlib.contextmanager
def serving(
    address: Address,
    token: str | None = None,
    controls: Controls | None = None,
    picture: Picture = attrgetter("annotated"),
    stalled_after: float = STALLED_AFTER,
) -> Iterator[Sink]:
    """A sink that shows every view on a page, whose address is printed; leaving the block ends the server.

    Where others can reach the address and no `token` is given, one is made and printed. `picture` makes what is shown
    of a view: with blurred faces, say. Raises IernError where aiohttp or prometheus-client is missing, OutputError
    where the address cannot be had.
    """
    _require_libraries()
    made = "" if token or address.private else secrets.token_urlsafe(16)
    with _event_loop() as loop:
        server = _wait(loop, _start(address, token or made, controls, picture, stalled_after))
        print(f"the page is at {server.address.url}{f'?token={made}' if made else ''}", flush=True)

        def show(view: FrameResult) -> None:
            server.meter(view)
            server.feed(view)

        try:
            yield show
        finally:
            _wait(loop, _stop(server))


async def _start(
    address: Address, token: str, controls: Controls | None, picture: Picture, stalled_after: float
) -> _Server:
    # Late: these import what `_require_libraries` asks for.
    from iern.runtime.serve.guard import add_headers, guard
    from iern.runtime.serve.meter import Meter
    from iern.runtime.serve.routes import Routes

    web = importlib.import_module("aiohttp.web")
    feed = Feed(picture)
    meter = Meter(feed)
    routes = Routes(feed, meter, controls, stalled_after)
    app = web.Application(middlewares=[guard(token)], client_max_size=4096)
    app.on_response_prepare.append(add_headers)
    routes.add_to(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, address.host, address.port).start()
    except (OSError, UnicodeError) as error:  # the latter of a host that no name can be
        await runner.cleanup()
        routes.close()
        await feed.close()
        raise OutputError(
            f"cannot listen on port {address.port} of {address.host} ({getattr(error, 'strerror', None) or error}); "
            "give another address with --serve"
        ) from error
    return _Server(runner, feed, routes, meter, Address(address.host, runner.addresses[0][1]))


async def _stop(server: _Server) -> None:
    await server.runner.cleanup()
    server.routes.close()
    await server.feed.close()


@contextlib.contextmanager
def _event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in its own thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="page server", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        _wait(loop, loop.shutdown_default_executor())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _wait(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of a coroutine that runs in the server's thread."""
    return asyncio.run_coroutine_threadsafe(work, loop).result()


def _require_libraries() -> None:
    for module in ("aiohttp", "prometheus_client"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise IernError(f"--serve: {module} cannot be imported ({error}); pip install 'iern[serve]'") from error
