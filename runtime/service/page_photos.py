"""Reads a photo for the page of the loop: a picture comes, its record goes back, and nothing is kept.

It shares the loop's detector and model. The loop waits for the model's call on the photo's faces, not for the search.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from iern.runtime.errors import ImageError, one_line
from iern.runtime.outputs.records import json_line, json_record
from iern.runtime.service.batcher import Batcher
from iern.runtime.service.limits import Admission, BusyError, Limits, RateLimit
from iern.runtime.service.recognition import Recognition
from iern.runtime.service.upload import expected_bytes, receive_picture

if TYPE_CHECKING:
    from aiohttp import web
else:
    web = importlib.import_module("aiohttp.web")

PAGE_LIMITS = Limits(waiting=4, rate=2.0)
"""Fewer than the service takes: the loop needs the processor."""


class PagePhotos:
    """The handler of POST /photo. The body is the picture itself, a JPEG, PNG or WebP."""

    def __init__(self, recognition: Recognition, limits: Limits = PAGE_LIMITS) -> None:
        self._recognition = recognition
        self._limits = limits
        self._admission = Admission(limits)
        self._rate = RateLimit(limits.rate)

    def add_to(self, app: web.Application) -> None:
        """Register the address, and the thread that starts and ends with the application."""
        app.cleanup_ctx.append(self._running_batcher)
        app.router.add_post("/photo", self.read)

    async def read(self, request: web.Request) -> web.Response:
        """The record of the picture in the body, with its size in pixels: "width" and "height".

        A refusal is one line of text: 400, 408, 413, 415 for the picture, 429 or 503 with Retry-After for too many.
        """
        if not (request.content_type.startswith("image/") or request.content_type == "application/octet-stream"):
            # Another site's form can send neither of the two.
            raise web.HTTPUnsupportedMediaType(
                text="expected the picture itself, with the type image/jpeg or its own\n"
            )
        try:
            self._rate.check(request.remote or "")
            with self._admission.admitted(expected_bytes(request, self._limits), self._batcher.seconds_to_empty):
                result = await self._batcher(await receive_picture(request, self._limits))
        except BusyError as busy:
            refusal = web.HTTPTooManyRequests if busy.status == 429 else web.HTTPServiceUnavailable
            raise refusal(text=f"{busy}\n", headers={"Retry-After": str(busy.seconds)}) from busy
        except ImageError as error:
            raise web.HTTPBadRequest(text=f"{one_line(error)}\n") from error
        except web.HTTPException:
            raise
        except Exception as error:  # a fault of ours or of the machine: the next photo may succeed
            traceback.print_exc(file=sys.stderr)
            raise web.HTTPInternalServerError(text=f"the photo could not be read: {one_line(error)}\n") from error
        height, width = result.frame.image.shape[:2]
        record = json_record(result) | {"width": width, "height": height}
        return web.Response(body=json_line(record) + b"\n", content_type="application/json")

    async def _running_batcher(self, _: web.Application) -> AsyncIterator[None]:
        self._batcher = Batcher(self._recognition)
        yield
        await self._batcher.close()
