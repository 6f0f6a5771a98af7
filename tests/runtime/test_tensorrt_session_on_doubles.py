"""The TensorRT session, by the real pycuda and the real kernels' source, over doubles of the driver and of TensorRT.

The doubles show whether calls are made in an order and with memory that is right. They cannot show that a GPU agrees.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from engine_folder import NETWORKS, make_engine
from iern.runtime.engine_file import manifest_path
from pycuda_on_double import environment

pytestmark = pytest.mark.slow

ENGINES = [*(("kernel", network) for network in NETWORKS), ("native", "windowed")]
HALF_ROUNDING = 5e-4
"""logits; onnxruntime fuses other operations where the graph ends at the maps"""

Run = Callable[..., str]


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Callable[[str, str], Path]:
    """Head and network -> an engine of its own, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("engines")

    def of(head: str, network: str = "windowed") -> Path:
        path = folder / f"{head} {network}.engine"
        if not path.exists():
            make_engine(path, head, **NETWORKS[network])
        return path

    return of


@pytest.fixture(scope="module")
def run() -> Run:
    """A program over the doubles, with its arguments -> what it prints; it ends well and says nothing on stderr."""
    variables = environment()

    def program(text: str, *arguments: object, **changes: str) -> str:
        command = [sys.executable, "-c", f"from on_doubles import *\n{textwrap.dedent(text)}", *map(str, arguments)]
        result = subprocess.run(
            command, env={**variables, **changes}, capture_output=True, encoding="utf-8", timeout=120, check=False
        )
        assert (result.returncode, result.stderr) == (0, ""), f"{result.stdout}\n{result.stderr}"
        return result.stdout

    return program


@pytest.mark.parametrize(("head", "network"), ENGINES)
def test_over_doubles_any_number_of_faces_gets_the_answers_of_the_exported_file(run, engine, head, network):
    path = engine(head, network)
    run(
        """
        path, onnx, head, rounding = sys.argv[1:]
        with open_session(path) as session, open_session(onnx, "cpu") as plain:
            assert (session.provider, session.note) == (f"tensorrt, head {head}", "")
            assert session.max_batch == 5 and session.artifact == plain.artifact
            for number in (0, 1, 2, 3, 4, 5, 6, 13, 1):
                assert furthest(session(faces(number)), plain(faces(number))) <= float(rounding), number
            assert furthest(session(faces(3)), plain(faces(3, seed=1))) > 100 * float(rounding)
        assert is_clean()
        """,
        *(path, path.with_suffix(".onnx"), head),
        1e-6 if head == "native" or network == "single precision" else HALF_ROUNDING,
    )


def test_over_doubles_every_call_is_one_replay_and_launches_nothing_piece_by_piece(run, engine):
    run(
        """
        with open_session(sys.argv[1]) as session:
            replays, kernels = count("replays"), count("kernels")
            fail("cuLaunchKernel", 999)
            fail("cuMemcpyHtoDAsync", 999)
            for number in (1, 2, 5, 12):
                session(faces(number))
            assert count("replays") - replays == count("kernels") - kernels == 1 + 1 + 1 + 3
        """,
        engine("kernel"),
    )


@pytest.mark.parametrize("head", ["kernel", "native"])
@pytest.mark.parametrize("function", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"])
def test_over_doubles_where_nothing_can_be_recorded_the_same_answers_come_with_the_reason(run, engine, head, function):
    said = run(
        """
        path, function = sys.argv[1:]
        with open_session(path) as session:
            expected = session(faces(4))
        if function == "cuStreamEndCapture":  # left recording, the stream would be of no use
            from iern.runtime import engine_batch
            engine_batch.PycudaTail.enqueue, plain = lambda self, *rest: None, engine_batch.PycudaTail.enqueue
            import pycuda.driver as cuda
            def allocating(context, stream, plain=engine_double.IExecutionContext.execute_async_v3):
                if context._calls:
                    cuda.mem_alloc(1)
                return plain(context, stream)
            engine_double.IExecutionContext.execute_async_v3 = allocating
            engine_batch.PycudaTail.enqueue = plain
        else:
            fail(function, 801)
        with open_session(path, max_batch=4) as session:
            print(session.note)
            assert furthest(session(faces(4)), expected) == 0
            assert furthest(session(faces(4)), expected) == 0
        assert is_clean()
        """,
        engine(head),
        function,
    )
    reason = "when stream is capturing" if function == "cuStreamEndCapture" else f"{function}"
    assert said.startswith("without a CUDA graph, which would be faster (") and reason in said
