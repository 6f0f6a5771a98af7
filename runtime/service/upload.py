"""Receives the picture of a request: the body itself, or the one part of a form. Nothing beyond the limit is kept."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from iern.runtime.errors import ImageError
from iern.runtime.service.limits import Limits
from iern.runtime.service.picture_size import KindError, picture_size
from iern.runtime.service.recognition import Request

if TYPE_CHECKING:
    from aiohttp import MultipartReader, web
    from aiohttp.http_exceptions import HttpProcessingError
else:
    web = importlib.import_module("aiohttp.web")
    MultipartReader = importlib.import_module("aiohttp").MultipartReader
    HttpProcessingError = importlib.import_module("aiohttp.http_exceptions").HttpProcessingError

RECEIVE_SECONDS = 30.0
"""Seconds in which a body must have come."""
FORM_BYTES = 1 << 16
"""Bytes that a form may add to its picture."""
BLOCK = 1 << 16
LONGEST_NAME = 200
"""Characters of a file's name that the record repeats."""


def expected_bytes(request: web.Request, limits: Limits) -> int:
    """The bytes that the body will hold, by its header; if it does not say, as many as are allowed.

    Raises HTTPRequestEntityTooLarge if that is too much, before anything is read.
    """
    length = request.content_length
    if length is not None and length > limits.bytes + FORM_BYTES:
        raise _too_large(limits, length)
    return limits.bytes if length is None else length


async def receive_picture(request: web.Request, limits: Limits) -> Request:
    """Read the picture and check its size by its header.

    Raises the HTTP errors 400, 408, 413 and 415, each with one line about what was found and what to do.
    """
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise web.HTTPUnsupportedMediaType(text="the body is compressed; send the picture as it is")
    try:
        data, name = await asyncio.wait_for(_receive(request, limits), RECEIVE_SECONDS)
    except asyncio.TimeoutError as error:
        raise web.HTTPRequestTimeout(text=f"the body did not come within {RECEIVE_SECONDS:g} s") from error
    if request.transport is None:  # until Python 3.11, `wait_for` forgets a cancellation at the moment of its result
        raise asyncio.CancelledError
    return checked_picture(data, name, limits)


def checked_picture(data: bytes, name: str, limits: Limits, **more: Any) -> Request:
    """Check an encoded picture by its header -> a Request, with `more` of its values.

    Raises the HTTP errors 400, 413 and 415.
    """
    try:
        width, height = picture_size(data)
    except KindError as error:
        raise web.HTTPUnsupportedMediaType(text=f"{name}: {error}") from error
    except ImageError as error:
        raise web.HTTPBadRequest(text=f"{name}: {error}") from error
    if width * height > limits.pixels:
        raise web.HTTPRequestEntityTooLarge(
            limits.pixels,
            width * height,
            text=f"{name}: has {width}x{height} pixels, expected at most {limits.megapixels:g} million; shrink it",
        )
    return Request(data, width * height, name, **more)


async def _receive(request: web.Request, limits: Limits) -> tuple[bytes, str]:
    """The picture and its name."""
    if not request.content_type.startswith("multipart/"):
        return await _joined(request.content.iter_chunked(BLOCK), limits), "image"
    try:
        return await _receive_form(request, limits)
    except (
        ValueError,
        AssertionError,
        RuntimeError,
        HttpProcessingError,
    ) as error:  # what aiohttp raises for a form that is malformed
        raise web.HTTPBadRequest(text=f"the form cannot be read: {' '.join(str(error).split())[:200]}") from error


async def _receive_form(request: web.Request, limits: Limits) -> tuple[bytes, str]:
    reader = await request.multipart()
    found: tuple[bytes, str] | None = None
    while (part := await reader.next()) is not None:
        if found is not None or isinstance(part, MultipartReader):
            raise web.HTTPBadRequest(text="the form has several parts; expected one with the picture")
        name = (part.filename or "image")[:LONGEST_NAME]
        found = await _joined(_blocks(part), limits), name
    if found is None:
        raise web.HTTPBadRequest(text="the form is empty; expected one part with the picture")
    return found


async def _blocks(part: Any) -> AsyncIterator[bytes]:
    while block := await part.read_chunk(BLOCK):
        yield block


async def _joined(blocks: AsyncIterator[bytes], limits: Limits) -> bytes:
    data = bytearray()
    async for block in blocks:
        data += block
        if len(data) > limits.bytes:
            raise _too_large(limits, len(data))
    return bytes(data)


def _too_large(limits: Limits, found: int) -> web.HTTPRequestEntityTooLarge:
    return web.HTTPRequestEntityTooLarge(
        limits.bytes, found, text=f"found {found} bytes or more, expected at most {limits.bytes}; shrink the picture"
    )
