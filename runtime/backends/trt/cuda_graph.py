"""CUDA graphs, which pycuda does not have: the work of a stream is recorded once and replayed with one call.

A recording holds addresses and shapes, so neither may change. Recorded work must not allocate memory or wait.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

from iern.runtime.errors import SessionError

THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may allocate while this thread records."""


class CudaGraph:
    """The recorded work that `enqueue` sends to a stream, ready to be replayed there."""

    def __init__(self, stream: int, enqueue: Callable[[], None]) -> None:
        """Record the work without running it. `stream` is a handle of pycuda, not the default stream.

        Raises what `enqueue` raises, and SessionError if the driver cannot record the work. The stream can then be
        used as before.
        """
        self._stream = ctypes.c_void_p(stream)
        self._ready = ctypes.c_void_p()
        graph = self._record(enqueue)
        try:
            _call("cuGraphInstantiateWithFlags", ctypes.byref(self._ready), graph, ctypes.c_ulonglong(0))
        finally:
            _libcuda().cuGraphDestroy(graph)

    def launch(self) -> None:
        """Send the recorded work to the stream. Raises SessionError."""
        _call("cuGraphLaunch", self._ready, self._stream)

    def close(self) -> None:
        """Free the recording. It must not be running."""
        _libcuda().cuGraphExecDestroy(self._ready)

    def _record(self, enqueue: Callable[[], None]) -> ctypes.c_void_p:
        graph = ctypes.c_void_p()
        _call("cuStreamBeginCapture_v2", self._stream, THREAD_LOCAL)
        try:
            enqueue()
        except BaseException:
            # The stream records until the capture ends, also after an error.
            if not _libcuda().cuStreamEndCapture(self._stream, ctypes.byref(graph)):
                _libcuda().cuGraphDestroy(graph)
            raise
        _call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        return graph


@functools.cache
def _libcuda() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")  # the library that pycuda has loaded


def _call(function: str, *arguments: object) -> None:
    """Call a function of the driver. Raises SessionError if the driver does not have it, or if it fails."""
    if not hasattr(_libcuda(), function):
        raise SessionError(f"the NVIDIA driver has no {function}; update it to one for CUDA 12 or newer")
    if code := getattr(_libcuda(), function)(*arguments):
        text = ctypes.c_char_p()
        _libcuda().cuGetErrorString(code, ctypes.byref(text))
        raise SessionError(f"{function} failed: {(text.value or b'').decode('utf-8', 'replace')} (error {code})")
