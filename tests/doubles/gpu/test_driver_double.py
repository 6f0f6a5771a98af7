"""The double of the driver, under the real pycuda, is as strict as CUDA: it refuses what a GPU refuses."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from doubles.gpu.pycuda_on_double import environment

PRELUDE = """
import numpy as np, pycuda.driver as cuda
from iern.cpp_ext.kernel_binaries import binaries_for
from iern.runtime.backends.trt.cuda_context import cuda_device
from iern.runtime.backends.trt.cuda_graph import CudaGraph
from doubles.gpu.on_doubles import count, fail
device = cuda_device()

def refused(call):
    try:
        call()
    except Exception as error:
        return str(error)
    raise AssertionError("the call was not refused")

with device.current():
    stream = cuda.Stream(1)
    host, back = cuda.pagelocked_zeros(4, np.float32), cuda.pagelocked_zeros(4, np.float32)
    memory = cuda.mem_alloc(16)
"""


@pytest.fixture(scope="module")
def doubles() -> dict[str, str]:
    return environment()


def run(doubles: dict[str, str], program: str) -> None:
    """Run a program with a current context. It must end without an error and without output on stderr."""
    text = PRELUDE + textwrap.indent(textwrap.dedent(program), "    ")
    result = subprocess.run(
        [sys.executable, "-c", text], env=doubles, capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (0, ""), result.stderr


def test_a_result_that_is_read_without_waiting_has_not_arrived(doubles):
    run(
        doubles,
        """
        host[:] = 7
        cuda.memcpy_htod_async(memory, host, stream)
        cuda.memcpy_dtoh_async(back, memory, stream)
        assert (back == 0).all()
        stream.synchronize()
        assert (back == 7).all()
        """,
    )


def test_pinned_memory_that_changes_before_the_copy_runs_arrives_changed(doubles):
    run(
        doubles,
        """
        host[:] = 7
        cuda.memcpy_htod_async(memory, host, stream)
        host[:] = 8
        cuda.memcpy_dtoh_async(back, memory, stream)
        stream.synchronize()
        assert (back == 8).all()
        """,
    )


def test_a_non_blocking_stream_overtakes_a_plain_copy(doubles):
    run(
        doubles,
        """
        cuda.memcpy_htod(memory, np.full(4, 7, np.float32))
        cuda.memcpy_dtoh_async(back, memory, stream)
        stream.synchronize()
        assert np.isnan(back).all()
        cuda.Context.synchronize()
        cuda.memcpy_dtoh_async(back, memory, stream)
        stream.synchronize()
        assert (back == 7).all()
        """,
    )


def test_a_graph_is_replayed_with_the_present_content_of_its_memory(doubles):
    run(
        doubles,
        """
        def there_and_back():
            cuda.memcpy_htod_async(memory, host, stream)
            cuda.memcpy_dtoh_async(back, memory, stream)
        graph = CudaGraph(stream.handle, there_and_back)
        for value in (3, 4):
            host[:] = value
            graph.launch()
            assert (back != value).all()
            stream.synchronize()
            assert (back == value).all()
        graph.close()
        assert count("graphs") == 0 and count("replays") == 2
        """,
    )


@pytest.mark.parametrize(
    "call",
    [
        "cuda.mem_alloc(16)",
        "cuda.pagelocked_zeros(4, np.float32)",
        "stream.synchronize()",
        "cuda.Context.synchronize()",
        "cuda.memcpy_htod(memory, host)",
        "cuda.memcpy_htod_async(memory, np.zeros(4, np.float32), stream)",
    ],
)
def test_a_call_that_cannot_be_recorded_spoils_the_recording_and_the_stream_can_be_used_again(doubles, call):
    run(
        doubles,
        f"""
        message = refused(lambda: CudaGraph(stream.handle, lambda: {call}))
        assert "when stream is capturing" in message or "would make the legacy stream depend" in message, message
        CudaGraph(stream.handle, lambda: cuda.memcpy_htod_async(memory, host, stream)).close()
        stream.synchronize()
        assert count("graphs") == 0
        """,
    )


def test_the_default_stream_is_not_recorded_and_an_error_during_the_recording_is_raised(doubles):
    run(
        doubles,
        """
        assert "cuStreamBeginCapture_v2 failed: operation not permitted" in refused(lambda: CudaGraph(0, lambda: None))
        assert "division by zero" in refused(lambda: CudaGraph(stream.handle, lambda: 1 / 0))
        fail("cuGraphInstantiateWithFlags", 2)
        message = refused(lambda: CudaGraph(stream.handle, lambda: None))
        assert message == "cuGraphInstantiateWithFlags failed: out of memory (error 2)"
        assert count("graphs") == 0
        """,
    )


def test_a_graph_that_outlives_its_memory_loses_the_gpu(doubles):
    run(
        doubles,
        """
        graph = CudaGraph(stream.handle, lambda: cuda.memcpy_htod_async(memory, host, stream))
        assert not device.is_lost()
        memory.free()
        graph.launch()
        assert "illegal memory access" in refused(stream.synchronize)
        assert device.is_lost()
        import os; os._exit(0)  # pycuda would report all that it cannot free now
        """,
    )


def test_copies_beyond_memory_and_calls_without_a_context_are_refused(doubles):
    run(
        doubles,
        """
        assert "invalid argument" in refused(lambda: cuda.memcpy_htod_async(int(memory) + 4, host, stream))
        device._context.pop()
        assert "invalid device context" in refused(lambda: cuda.memcpy_htod_async(memory, host, stream))
        device._context.push()
        """,
    )


def test_the_driver_accepts_binaries_for_this_gpu_only_and_ptx_that_is_not_newer(doubles):
    run(
        doubles,
        r"""
        name, ours = next(binaries_for("sm_87"))
        cuda.module_from_buffer(ours).get_function("strata_tail_pooled_half")
        for capability in ("sm_80", "sm_86", "sm_90", "sm_120"):
            name, other = next(binaries_for(capability))
            assert "no kernel image" in refused(lambda: cuda.module_from_buffer(other)), name
        cuda.module_from_buffer(b".version 8.5\n.target sm_75\n\0")
        assert "unsupported" in refused(lambda: cuda.module_from_buffer(b".version 9.0\n.target sm_75\n\0"))
        """,
    )
