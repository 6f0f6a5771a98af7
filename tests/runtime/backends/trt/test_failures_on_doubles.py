"""How the TensorRT session refuses and fails, with the real pycuda over doubles of the driver and of TensorRT."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from doubles.gpu.engine_double import make_plan
from doubles.gpu.engine_folder import BATCHES
from iern.cpp_ext.tail_weights import TailWeights
from iern.runtime.backends.trt.engine_file import EngineFile, read_engine, write_engine

BUILD = r"build it again: python -m iern\.export\.to_trt"


@pytest.fixture
def changed(engine_on_doubles, tmp_path) -> Callable[..., Path]:
    """Return a function: head, plan (None: the valid one), tail, changes to the manifest -> path of such an engine."""

    def write(head: str, plan: bytes | None = None, tail: TailWeights | None = None, **changes: Any) -> Path:
        found: EngineFile = read_engine(engine_on_doubles(head))
        path = tmp_path / "changed.engine"
        manifest = dataclasses.replace(found.manifest, **changes)
        write_engine(path, plan or found.plan, manifest, tail or found.tail)
        return path

    return write


def graph_of(path: Path) -> onnx.ModelProto:
    """Return the ONNX model in the plan of the double."""
    return onnx.load_from_string(read_engine(path).plan.split(b"\n", 2)[2])


@pytest.mark.parametrize("head", ["kernel", "native"])
def test_over_doubles_after_any_failure_while_it_opens_all_memory_is_freed_and_no_context_stays_pushed(
    run_on_doubles, engine_on_doubles, head
):
    """Each function of the driver fails at each of its calls in turn."""
    output = run_on_doubles(
        """
        path = sys.argv[1]
        functions = ["cuStreamCreate", "cuMemAlloc", "cuMemHostAlloc", "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync",
            "cuMemsetD32Async", "cuModuleGetFunction", "cuLaunchHostFunc", "cuLaunchKernel", "cuStreamSynchronize"]
        for function in functions:
            for calls in range(100):
                fail(function, 999, after=calls)  # pycuda tries again after "out of memory"
                message = ""
                try:
                    open_session(path, max_batch=2).close()
                except SessionError as error:
                    message = str(error)
                    assert is_clean(), (function, calls)  # although the error still exists
                fail(function, 999, after=1 << 30)
                if not message:
                    break
                assert message.startswith(path) and "; " in message, message
            print(function, calls)
        """,
        engine_on_doubles(head),
    )
    failed = {name: int(count) for name, count in map(str.split, output.splitlines())}
    used = {name for name in failed if head == "kernel" or name not in NATIVE_NEVER}
    assert {name for name, count in failed.items() if count} == used


NATIVE_NEVER = {"cuMemsetD32Async", "cuModuleGetFunction", "cuLaunchKernel"}


@pytest.mark.parametrize("recorded", [True, False])
def test_over_doubles_a_call_that_fails_raises_and_the_next_one_works(run_on_doubles, engine_on_doubles, recorded):
    run_on_doubles(
        """
        path, recorded = sys.argv[1:]
        if not int(recorded):
            fail("cuStreamBeginCapture", 801)
        with open_session(path, max_batch=1) as session:
            right = session(faces(1))
            fail("cuGraphLaunch" if int(recorded) else "cuLaunchHostFunc", 2)
            try:
                session(faces(1, seed=1))
            except SessionError as error:
                words = "cuGraphLaunch failed: out of memory" if int(recorded) else "TensorRT does not run"
                assert f"1 faces on tensorrt, head kernel: {words}" in str(error), error
                assert str(error).endswith("; try again, or open the model again"), error
            else:
                raise AssertionError
            assert count("pushed") == 0
            assert largest_difference(session(faces(1)), right) == 0
        assert is_clean()
        """,
        engine_on_doubles("kernel"),
        int(recorded),
    )


def test_over_doubles_once_the_gpu_is_lost_the_process_must_be_restarted(run_on_doubles, engine_on_doubles):
    run_on_doubles(
        """
        import os
        session = open_session(sys.argv[1])
        lose(719)
        try:
            session(faces(1))
        except SessionError as error:
            assert str(error).endswith("unspecified launch failure; restart the process"), error
        else:
            raise AssertionError
        assert count("pushed") == 0
        os._exit(0)  # pycuda would report all that it cannot free now
        """,
        engine_on_doubles("native"),
    )


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"tensorrt": "10.13.3.9"}, r"was built by TensorRT 10\.13\.3\.9, here is 10\.3\.0"),
        ({"gpu": None}, r"was built on an unknown GPU, here is driver double \(sm_87\)"),
        ({"backend": "rtx", "targets": ("sm_89", "sm_120")}, r"was built for sm_89, sm_120, here is driver double"),
    ],
)
def test_over_doubles_an_engine_for_another_machine_is_refused_before_tensorrt_sees_it(
    run_on_doubles, changed, changes, found
):
    output = run_on_doubles(
        """
        del engine_double.Runtime
        print(refusal(sys.argv[1], EngineError))
        assert is_clean()
        """,
        changed("native", **changes),
    )
    assert_message(output, found, BUILD)


def test_over_doubles_a_model_exported_again_since_is_refused(run_on_doubles, changed):
    path = changed("native")
    path.with_name(read_engine(path).manifest.onnx).write_bytes(b"the next one")
    output = run_on_doubles("print(refusal(sys.argv[1], ArtifactError))", path)
    assert_message(output, "was built from another .* than the one beside it", BUILD)


def test_over_doubles_the_error_for_a_plan_that_cannot_be_loaded_has_the_words_of_tensorrt(run_on_doubles, changed):
    output = run_on_doubles("print(refusal(sys.argv[1], EngineError)); assert is_clean()", changed("native", b"ftrt"))
    assert_message(output, r"cannot load the plan \(Serialization assertion plan->header.magicTag failed\.\)", BUILD)
    assert "a warning" not in output


def of_other_labels(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "chances"
    for node in model.graph.node:
        node.output[:] = ["chances" if name == "probabilities" else name for name in node.output]


def with_double_stratum(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Concat", ["stratum_logits"] * 2, ["twice"], axis=1))
    del model.graph.output[2]
    model.graph.output.append(helper.make_tensor_value_info("twice", TensorProto.FLOAT, ["batch", 6, 4]))


def in_half(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Cast", ["logits"], ["half"], to=TensorProto.FLOAT16))
    del model.graph.output[1]
    model.graph.output.append(helper.make_tensor_value_info("half", TensorProto.FLOAT16, ["batch", 4]))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (of_other_labels, r"it has chances out \(batch, 4\) FLOAT, .* promises image in \(batch, 64, 64, 3\) UINT8, "),
        (with_double_stratum, r"twice out \(batch, 6, 4\) FLOAT; .*stratum_logits out \(batch, 3, 4\) FLOAT"),
        (in_half, r"it has half out \(batch, 4\) HALF, .*promises .*logits out \(batch, 4\) FLOAT"),
    ],
)
def test_over_doubles_an_engine_that_breaks_the_contract_is_refused(run_on_doubles, changed, change, found):
    model = graph_of(changed("native"))
    change(model)
    path = changed("native", make_plan(model.SerializeToString(), BATCHES))
    assert_message(run_on_doubles("print(refusal(sys.argv[1], EngineError)); assert is_clean()", path), found, BUILD)


def test_over_doubles_maps_in_another_precision_layout_or_number_are_refused(run_on_doubles, changed):
    graph = graph_of(changed("kernel")).SerializeToString()
    tail = read_engine(changed("kernel")).tail
    wider = TailWeights(tail.weight.repeat(2, axis=1), tail.bias)
    pooled = TailWeights(tail.weight[..., :1], tail.bias)
    for path, found in (
        (lambda: changed("kernel", precision="fp32"), r"h out \(batch, 8, 4, 4\) HALF.*promises h out .* FLOAT"),
        (lambda: changed("kernel", tail=wider), r"h out \(batch, 8, 4, 4\) .*promises h out \(batch, 16, 4, 4\)"),
        (
            lambda: changed("kernel", tail=pooled),
            r"it has h out .*promises image in \([^)]*\) UINT8, u out [^,]*,[^h]*;",
        ),
        (
            lambda: changed("kernel", make_plan(graph, BATCHES, layout={"u": "CHW32"})),
            r"u out \(batch, 8, 4, 4\) HALF in format CHW32; its manifest",
        ),
        (lambda: changed("kernel", make_plan(graph, (1, 2, 3))), r"takes batches of 1, 2, 3; .* promises 1, 2, 5"),
        (lambda: changed("kernel", make_plan(graph, (), profiles=[[1, 2, 5]])), r"of 1 to 5; .* promises 1, 2, 5"),
    ):
        output = run_on_doubles("print(refusal(sys.argv[1], EngineError)); assert is_clean()", path())
        assert_message(output, found, BUILD)


def test_over_doubles_the_first_binary_that_the_driver_accepts_is_used(run_on_doubles, engine_on_doubles):
    run_on_doubles(
        """
        from iern.cpp_ext.kernel_binaries import binaries_for
        from iern.runtime.backends.trt import session as tensorrt_session
        (_, ours), (_, ptx) = binaries_for("sm_87")
        _, other = next(binaries_for("sm_90"))
        tensorrt_session.binaries_for = lambda capability: iter([("sm_90", other), ("PTX", ptx)])
        with open_session(sys.argv[1]) as session:
            session(faces(2))
        tensorrt_session.binaries_for = lambda capability: iter([("sm_90", other), ("text", b"no PTX" + bytes(64))])
        message = refusal(sys.argv[1], SessionError)
        assert "loads no binary of the tail's kernel (sm_90: cuModuleLoadDataEx failed: no kernel image" in message
        assert "text: cuModuleLoadDataEx failed" in message
        assert message.endswith("; or build the engine with --head native")
        def missing(capability):
            raise FileNotFoundError("no binaries; install iern again")
            yield
        tensorrt_session.binaries_for = missing
        assert "install iern again; or build the engine with --head native" in refusal(sys.argv[1], SessionError)
        assert is_clean()
        """,
        engine_on_doubles("kernel"),
    )


def test_over_doubles_without_a_gpu_or_tensorrt_the_error_has_a_remedy(run_on_doubles, engine_on_doubles):
    output = run_on_doubles("print(refusal(sys.argv[1], SessionError))", engine_on_doubles("native"), DOUBLE_NO_GPU="1")
    assert_message(output, r"no usable GPU \(cuInit failed: no CUDA-capable device", "nvidia-smi.*use the .onnx")
    program = "sys.modules['tensorrt'] = None; print(refusal(sys.argv[1], SessionError))"
    output = run_on_doubles(program, engine_on_doubles("native"))
    assert_message(output, "needs TensorRT, which is not installed", "pip install tensorrt; on a Jetson .*JetPack")


def assert_message(output: str, found: str, remedy: str) -> None:
    assert re.search(f"{found}.*{remedy}", output), output
