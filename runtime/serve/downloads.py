"""Sends the files that this run wrote: records and recordings. An address has the number of a file, never a name."""

from __future__ import annotations

import asyncio
import importlib
import os
import stat
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

from iern.runtime.serve import long_responses
from iern.runtime.serve.controls import PageControls, RunFile
from iern.runtime.serve.long_responses import disconnected_if_stuck

if TYPE_CHECKING:
    from aiohttp import web
else:
    web = importlib.import_module("aiohttp.web")

LARGEST_FILE = 4 << 30
"""Bytes. A browser keeps a larger file badly; it is listed, and its place on the machine is to be used."""
MOST_DOWNLOADS = 4
"""At the same time. Each holds an open file and a socket."""
LOG_TAIL = 1 << 16
"""Bytes at the end of growing records that are searched for the end of their last whole line."""
BLOCK = 1 << 18
ABSENT_FLAG = 0
"""In place of flags of `os.open` that a system lacks."""


class Downloads:
    """The handler of `/files/NUMBER`, and the list of the files for the page."""

    def __init__(self, controls: PageControls) -> None:
        self._controls = controls
        self._running = 0

    def add_to(self, app: web.Application) -> None:
        """Register the address."""
        app.router.add_get(r"/files/{number:[0-9]{1,6}}", self.send, allow_head=False)

    async def listing(self) -> Sequence[dict[str, Any]]:
        """JSON for the page: "number", "name", "kind", "bytes" and "offered" of each file that exists."""
        return await asyncio.get_running_loop().run_in_executor(None, lambda: list(_listed(self._controls.files)))

    async def send(self, request: web.Request) -> web.StreamResponse:
        """A file of this run, growing records until their last whole line. 404, 413 or 503 if that is not possible."""
        files, number = self._controls.files, int(request.match_info["number"])
        if number >= len(files):
            raise web.HTTPNotFound(text=f"this run wrote {len(files)} files, counted from 0\n")
        if self._running >= MOST_DOWNLOADS:
            raise web.HTTPServiceUnavailable(
                text=f"{MOST_DOWNLOADS} downloads run already; wait for one\n", headers={"Retry-After": "10"}
            )
        self._running += 1
        try:
            return await _send(request, files[number])
        finally:
            self._running -= 1


async def _send(request: web.Request, run_file: RunFile) -> web.StreamResponse:
    loop, name = asyncio.get_running_loop(), run_file.path.name
    try:
        file, size = await loop.run_in_executor(None, _open, run_file)
    except OSError as error:
        raise web.HTTPNotFound(text=f"{name} is no longer there\n") from error
    with file, disconnected_if_stuck(request):
        if size > LARGEST_FILE:
            raise web.HTTPRequestEntityTooLarge(
                LARGEST_FILE,
                size,
                text=f"{name} has {size} bytes, at most {LARGEST_FILE} are sent; copy it from the machine\n",
            )
        disposition = f"attachment; filename*=UTF-8''{quote(os.fsencode(name), safe='')}"
        response = web.StreamResponse(headers={"Content-Disposition": disposition})
        response.content_type, response.content_length = "application/octet-stream", size
        await response.prepare(request)
        while size > 0 and (block := await loop.run_in_executor(None, file.read, min(size, BLOCK))):
            await asyncio.wait_for(response.write(block), long_responses.SEND_TIMEOUT)
            size -= len(block)
    return response


def _listed(files: Sequence[RunFile]) -> Iterator[dict[str, Any]]:
    for number, file in enumerate(files):
        try:
            size = file.path.stat().st_size
        except OSError:
            continue
        name = os.fsencode(file.path.name).decode("utf-8", "replace")
        yield {"number": number, "name": name, "kind": file.kind, "bytes": size, "offered": size <= LARGEST_FILE}


def _open(run_file: RunFile) -> tuple[IO[bytes], int]:
    """The open file, at its start, and the number of bytes to send.

    Raises OSError if there is none, or if something else was put in its place: a link or a pipe.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", ABSENT_FLAG) | getattr(os, "O_BINARY", ABSENT_FLAG)
    file = open(os.open(run_file.path, flags | getattr(os, "O_NOFOLLOW", ABSENT_FLAG)), "rb")  # noqa: SIM115  the caller closes it
    try:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{run_file.path} is not a regular file")
        return file, _whole_lines(file, found.st_size) if run_file.growing else found.st_size
    except OSError:
        file.close()
        raise


def _whole_lines(file: IO[bytes], size: int) -> int:
    """The number of bytes until the end of the last whole line. The file is at its start again."""
    start = max(0, size - LOG_TAIL)
    file.seek(start)
    tail = file.read(size - start)
    file.seek(0)
    return start + tail.rfind(b"\n") + 1
