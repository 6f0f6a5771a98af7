"""The addresses of the server: the page's files, the stream, the controls, and those for programs.

Every address is relative to the page, so that a proxy may put it under any path. No address contains the name of a file
on the machine: the page's own files are read at the start, and what this run wrote has numbers.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iern.runtime.drawing.overlay import PALETTE
from iern.runtime.errors import IernError
from iern.runtime.serve.controls import LONGEST_HALF_LIFE, About, MoreRoutes, PageControls
from iern.runtime.serve.downloads import Downloads
from iern.runtime.serve.feed import LiveFeed
from iern.runtime.serve.long_responses import refuse_if_crowded, send_parts
from iern.runtime.serve.program_routes import ProgramRoutes
from iern.runtime.serve.prometheus_metrics import TEXT_FORMAT, PrometheusMetrics

if TYPE_CHECKING:
    from aiohttp import web
else:
    web = importlib.import_module("aiohttp.web")

PAGE = Path(__file__).parent / "page"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
INDEX = "page.html"


class Routes:
    """The handlers of all addresses, for one feed and, if there are any, the loop's controls."""

    def __init__(
        self,
        feed: LiveFeed,
        metrics: PrometheusMetrics,
        controls: PageControls | None,
        about: About | None = None,
        photos: MoreRoutes | None = None,
    ) -> None:
        """`photos` adds POST /photo, which answers with the record of the picture in its body."""
        self._feed = feed
        self._metrics = metrics
        self._controls = controls
        self._about = about
        self._photos = photos
        self._downloads = Downloads(controls) if controls is not None else None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="page controls")

    def add_to(self, app: web.Application) -> None:
        """Register every address."""
        for path in PAGE.iterdir():
            if path.suffix in TYPES:
                app.router.add_get("/" if path.name == INDEX else f"/{path.name}", _file(path))
        app.router.add_get("/stream", self.stream, allow_head=False)
        app.router.add_get("/state", self.state)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/healthz", self.health)
        ProgramRoutes(self._feed).add_to(app)
        if self._photos is not None:
            self._photos.add_to(app)
        if self._downloads is not None:
            self._downloads.add_to(app)
            app.router.add_post("/recording", self.set_recording)
            app.router.add_post("/source", self.set_source)
            app.router.add_post("/blur", self.set_blur)
            app.router.add_post("/overlay", self.set_overlay)
            app.router.add_post("/half_life", self.set_half_life)

    def close(self) -> None:
        """Stop the controls' thread, without waiting for its current call: that may be waiting for the loop."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Send messages of the feed, until the viewer leaves or stops reading."""
        refuse_if_crowded(self._feed)
        return await send_parts(request, self._feed.messages(), "application/octet-stream")

    async def state(self, _: web.Request) -> web.Response:
        """JSON for the page: "stalled", the expressions' "palette", "photos", "about" and "controls".

        "photos" is whether pictures are read. "about" and "controls" are null if there are none.
        """
        palette = [f"rgb({red}, {green}, {blue})" for blue, green, red in PALETTE]
        about = None if self._about is None else dataclasses.asdict(self._about)
        state = {"stalled": self._feed.stalled, "palette": palette, "photos": self._photos is not None, "about": about}
        return web.json_response(state | {"controls": await self._controls_state()})

    async def set_recording(self, request: web.Request) -> web.Response:
        """Start or stop the recording. The body is {"on": true or false}."""
        assert self._controls is not None
        on = await _value(request, "on", bool)
        return await self._run_control(self._controls.start_recording if on else self._controls.stop_recording)

    async def set_source(self, request: web.Request) -> web.Response:
        """Switch to another source. The body is {"name": one of the allowed sources}."""
        controls, name = self._controls, await _value(request, "name", str)
        assert controls is not None
        if name not in controls.sources:
            raise web.HTTPNotFound(text="not one of the sources that the operator allowed\n")
        return await self._run_control(lambda: controls.select_source(name))

    async def set_blur(self, request: web.Request) -> web.Response:
        """Blur the picture's faces or not, for every viewer. The body is {"on": true or false}."""
        controls, on = self._controls, await _value(request, "on", bool)
        assert controls is not None
        if controls.blur_fixed:
            raise web.HTTPConflict(text="the loop was started with --blur-faces, which the page cannot undo\n")
        return await self._run_control(lambda: controls.set_blur(on))

    async def set_overlay(self, request: web.Request) -> web.Response:
        """Draw on the picture or not, for every viewer. The body is {"on": true or false}."""
        controls, on = self._controls, await _value(request, "on", bool)
        assert controls is not None
        return await self._run_control(lambda: controls.set_overlay(on))

    async def set_half_life(self, request: web.Request) -> web.Response:
        """Smooth with another half-life. The body is {"seconds": 0 to LONGEST_HALF_LIFE}."""
        controls, seconds = self._controls, float(await _value(request, "seconds", (int, float)))
        assert controls is not None
        if not 0 <= seconds <= LONGEST_HALF_LIFE:
            raise web.HTTPBadRequest(text=f"expected 0 to {LONGEST_HALF_LIFE:g} seconds, found {seconds:g}\n")
        return await self._run_control(lambda: controls.set_half_life(seconds))

    async def metrics(self, _: web.Request) -> web.Response:
        """The metrics for Prometheus."""
        return web.Response(body=self._metrics.text(), headers={"Content-Type": TEXT_FORMAT})

    async def health(self, _: web.Request) -> web.Response:
        """Status 200 while frames come, 503 before the first and when they stop."""
        seconds = self._feed.seconds_since_last()
        if not self._feed.stalled:
            return web.Response(text="frames come\n")
        since = "no frame yet" if math.isnan(seconds) else f"no frame for {seconds:.0f} s"
        return web.Response(status=503, text=since + "\n")

    async def _run_control(self, action: Callable[[], None]) -> web.Response:
        """Call a control of the loop. If it fails, the status is 409 and the text is the reason."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._worker, action)
        except (IernError, OSError) as error:
            raise web.HTTPConflict(text=f"{error}\n") from error
        self._feed.show_again()
        return web.Response(status=204)

    async def _controls_state(self) -> dict[str, Any] | None:
        if self._controls is None or self._downloads is None:
            return None
        controls = self._controls
        return {
            "recording": controls.recording,
            "sources": list(controls.sources),
            "source": controls.source,
            "files": await self._downloads.listing(),
            "blur": controls.blur,
            "blur_fixed": controls.blur_fixed,
            "overlay": controls.overlay,
            "half_life": controls.half_life,
        }


def _file(path: Path) -> Callable[[web.Request], Any]:
    body = path.read_bytes()

    async def respond(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type=TYPES[path.suffix], charset="utf-8")

    return respond


async def _value(request: web.Request, key: str, kind: type | tuple[type, ...]) -> Any:
    """The value of `key` in a JSON body. The header must say JSON, which a form from another site cannot."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="expected application/json\n")
    try:
        value = (await request.json())[key]
    except (ValueError, KeyError, TypeError):
        value = None
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):  # True is an int to Python
        expected = " or ".join(each.__name__ for each in kinds)
        raise web.HTTPBadRequest(text=f"expected a JSON object with {key!r}: {expected}\n")
    return value
