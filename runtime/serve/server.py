"""The page's server: a thread with an event loop of its own, which runs until a block ends.

`with page_server(parse_address("8080")) as sink: ...` and then `sink(result)` for every result.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

from iern.runtime.errors import IernError, OutputError
from iern.runtime.outputs.frame_result import FrameResult, Sink
from iern.runtime.serve.address import Address
from iern.runtime.serve.controls import About, MoreRoutes, PageControls
from iern.runtime.serve.feed import LiveFeed, RenderPicture
from iern.runtime.serve.listening import listen, made_token, url_with
from iern.runtime.system.remedies import install

if TYPE_CHECKING:
    from aiohttp import web

    from iern.runtime.serve.prometheus_metrics import PrometheusMetrics
    from iern.runtime.serve.routes import Routes

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class _Server:
    """The parts of a running server, in the order in which they are stopped."""

    runner: web.AppRunner
    feed: LiveFeed
    routes: Routes
    metrics: PrometheusMetrics
    address: Address


@contextlib.contextmanager
def page_server(
    address: Address,
    token: str | None = None,
    controls: PageControls | None = None,
    render: RenderPicture = attrgetter("annotated"),
    clock: Callable[[], float] = time.monotonic,
    about: About | None = None,
    photos: MoreRoutes | None = None,
) -> Iterator[Sink]:
    """A sink that shows every result on a page, whose address is printed. The server runs until the block ends.

    Of several sources it takes the results, for records and metrics, and grids of them (`FrameResult.tiles`), which are
    the pictures.

    If others can reach the address and no `token` is given, a random one is made and printed. `render` makes the
    picture that viewers see. `clock` returns seconds, by which /healthz decides whether frames come. `about` is what
    the page says about the program, and `photos` reads the pictures that are dropped on it, see `Routes`.
    Raises IernError if aiohttp or prometheus-client is missing, and OutputError if the server cannot listen on the
    address.
    """
    require_libraries()
    made = made_token(address, token)
    with _event_loop() as loop:
        server = _wait(loop, _start(address, token or made, render, clock, (controls, about, photos)))
        print(f"the page is at {url_with(server.address, made)}", flush=True)

        def show(result: FrameResult) -> None:
            if not result.tiles:  # the frames of a grid were counted one by one
                server.metrics(result)
            server.feed(result)

        try:
            yield show
        finally:
            _wait(loop, _stop(server))


async def _start(
    address: Address,
    token: str,
    render: RenderPicture,
    clock: Callable[[], float],
    parts: tuple[PageControls | None, About | None, MoreRoutes | None],
) -> _Server:
    # Imported here, because these need the libraries that `require_libraries` checks.
    from iern.runtime.serve.access import access_middleware, add_security_headers
    from iern.runtime.serve.prometheus_metrics import PrometheusMetrics
    from iern.runtime.serve.routes import Routes

    web = importlib.import_module("aiohttp.web")
    feed = LiveFeed(render, clock)
    metrics = PrometheusMetrics(feed)
    routes = Routes(feed, metrics, *parts)
    app = web.Application(middlewares=[access_middleware(token)], client_max_size=4096)
    app.on_response_prepare.append(add_security_headers)
    routes.add_to(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        listening = await listen(runner, address, "--serve")
    except OutputError:
        await runner.cleanup()
        routes.close()
        await feed.close()
        raise
    return _Server(runner, feed, routes, metrics, listening)


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


def require_libraries(user: str = "--serve") -> None:
    """Raise IernError with the remedy if aiohttp or prometheus-client is missing. `user` is what needs them."""
    for module in ("aiohttp", "prometheus_client"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise IernError(f"{user}: {module} cannot be imported ({error}); {install('serve')}") from error
