"""Makes every refusal and failure one line of JSON: `{"error": "..."}`, and counts all answers by status."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from iern.runtime.errors import ImageError, one_line
from iern.runtime.outputs.records import json_line
from iern.runtime.serve.access import Handler
from iern.runtime.service.limits import BusyError

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.typedefs import Middleware
else:
    web = importlib.import_module("aiohttp.web")

KEPT_HEADERS = ("WWW-Authenticate", "Retry-After", "Allow")
LONGEST_ERROR = 500
"""Characters."""


def error_middleware(on_status: Callable[[int], None]) -> Middleware:
    """The outermost middleware. `on_status` gets the status of every answer."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await handler(request)
        except web.HTTPException as refusal:
            kept = {name: refusal.headers[name] for name in KEPT_HEADERS if name in refusal.headers}
            response = _error(refusal.status, refusal.text or refusal.reason, kept)
        except BusyError as busy:
            response = _error(busy.status, str(busy), {"Retry-After": str(busy.seconds)})
        except ImageError as error:
            response = _error(400, str(error))
        except Exception as error:  # a fault of ours or of the machine: the next request may succeed
            traceback.print_exc(file=sys.stderr)
            response = _error(500, f"the picture could not be analysed ({type(error).__name__}: {error})")
        on_status(response.status)
        return response

    return answer


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    body = json_line({"error": one_line(Exception(text), LONGEST_ERROR)}) + b"\n"
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)
