"""Runs the service: one process, which stops in an orderly way after Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import importlib
import signal
from typing import TYPE_CHECKING, Any

from iern.runtime.serve.access import access_middleware, add_security_headers
from iern.runtime.serve.address import Address
from iern.runtime.serve.listening import listen, made_token, url_with
from iern.runtime.service.errors_as_json import error_middleware
from iern.runtime.service.limits import Limits
from iern.runtime.service.recognition import Recognition
from iern.runtime.service.routes import Routes

if TYPE_CHECKING:
    from aiohttp import web
else:
    web = importlib.import_module("aiohttp.web")

DRAIN_SECONDS = 30.0
"""Seconds in which requests that came before the stop are answered."""
RUNNER_OPTIONS: dict[str, Any] = {"access_log": None, "handler_cancellation": True, "auto_decompress": False}
"""A request whose client leaves is cancelled, and so leaves the queue. A body is never unpacked."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def application(recognition: Recognition, limits: Limits, token: str = "") -> web.Application:
    """The service as an application. An empty token means that only this machine may use it."""
    routes = Routes(recognition, limits)
    app = web.Application(
        middlewares=[error_middleware(routes.metrics.add_status), access_middleware(token)],
        client_max_size=limits.bytes,
    )
    app.on_response_prepare.append(add_security_headers)
    routes.add_to(app)
    return app


def serve(address: Address, recognition: Recognition, limits: Limits, token: str | None) -> None:
    """Answer requests until SIGINT or SIGTERM, and then those that have already come.

    If others can reach the address and no `token` is given, a random one is made and printed. Raises OutputError if the
    service cannot listen on the address.
    """
    made = made_token(address, token)
    asyncio.run(_serve(address, application(recognition, limits, token or made), made))


async def _serve(address: Address, app: web.Application, made: str) -> None:
    runner = web.AppRunner(app, shutdown_timeout=DRAIN_SECONDS, **RUNNER_OPTIONS)
    await runner.setup()
    try:
        listening = await listen(runner, address, "--port")
        print(f"the service is at {url_with(listening, made)}", flush=True)
        await _stop_signal()
    finally:
        await runner.cleanup()


async def _stop_signal() -> None:
    """Wait for SIGINT or SIGTERM. A second one then ends the process at once, as it usually does."""
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, asked.set)
    await asked.wait()
    for number in STOP_SIGNALS:
        loop.remove_signal_handler(number)
    print("the service stops; requests that have come are still answered", flush=True)
