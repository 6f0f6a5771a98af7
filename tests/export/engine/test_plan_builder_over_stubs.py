"""The builder calls the real bindings of every TensorRT from 10.3 to 11.4. Behind them is a stub of TensorRT.

This shows that the bindings accept every call, and that the right values arrive in C++. It does not show that TensorRT
builds or runs anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection

import pytest

from doubles.gpu.tensorrt_over_stubs import BINDINGS, compile_stubs, need_stubs, run_over_stubs
from iern.export.engine.plan_builder import load_backend
from iern.runtime.errors import EngineError
from repository import ROOT

TABLE = json.loads((ROOT / "tests" / "doubles" / "gpu" / "tensorrt_api.json").read_text(encoding="utf-8"))
FACE = [64, 64, 3]
"""The shape of one face in the stub's input tensor."""
RUNNING = {
    "Runtime": ("deserialize_cuda_engine",),
    "ICudaEngine": (
        *("create_execution_context", "num_io_tensors", "get_tensor_name", "get_tensor_mode"),
        *("get_tensor_shape", "get_tensor_dtype", "get_tensor_format"),
        *("num_optimization_profiles", "get_tensor_profile_shape", "device_memory_size_v2"),
    ),
    "IExecutionContext": (
        *("set_device_memory", "set_optimization_profile_async", "set_input_shape", "set_tensor_address"),
        *("infer_shapes", "execute_async_v3"),
    ),
}
"""The members that running a plan needs."""
PLAN, TIMES = "plan\0" * 1000, "new\0times!"
"""The results of the stub's build."""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    need_stubs()
    folder = tmp_path_factory.mktemp("libraries")
    compile_stubs(folder)
    return folder


@pytest.fixture(scope="module", params=BINDINGS)
def version(request):
    return request.param


@pytest.fixture(scope="module")
def report(version, libraries, tmp_path_factory):
    return run_over_stubs(version, libraries, "report_calls.py", tmp_path_factory.mktemp("build"))


def wrong_rows(version: str, members: Callable[[str], Collection[str]]) -> set[str]:
    """The rows of the table that are wrong about a version, given the members of its classes."""
    column = TABLE["versions"].index(version)
    return {
        name
        for name, present in TABLE["members"].items()
        if (name.split(".")[1] in members(name.split(".")[0])) != (present[column] == "1")
    }


def test_the_bindings_are_found_without_the_package_that_wraps_them(report, version):
    assert (report["backend"], report["package"], report["version"]) == ("tensorrt", "tensorrt_bindings", version)
    major, minor, patch = map(int, version.split(".")[:3])
    ((_, requested),) = report["a_build"]["arrived"]["create_builder"]
    assert requested == 10_000 * major + 100 * minor + patch


def test_the_table_of_members_is_right_about_each_tensorrt(report, version):
    assert not wrong_rows(version, lambda owner: report["members"].get(owner, ()))


def test_a_network_is_created_as_strongly_typed_with_the_bit_of_that_version(report, version):
    bit = {"10": 1, "11": 0}[version.split(".")[0]]
    assert report["a_build"]["arrived"]["builder.create_network"] == [[1 << bit]]


def test_the_graph_the_workspace_and_the_verbosity_arrive_unchanged(report):
    arrived = report["a_build"]["arrived"]
    assert arrived["parser.parse"] == ["a graph\0in ONNX"]
    workspace, detailed = 0, 2
    assert arrived["config.workspace"] == [[workspace, 3 << 30]]
    assert arrived["config.verbosity"] == [[detailed]]


def test_ten_bits_of_mantissa_are_forbidden_to_matrix_products_in_single_precision(report):
    """By the flag's number in this version."""
    assert report["a_build"]["arrived"]["config.clear_flag"] == [[report["tf32"]]]


def test_every_batch_has_a_profile_that_takes_no_other(report):
    build = report["a_build"]
    smallest, usual, largest = 0, 1, 2
    assert build["arrived"]["profile.set_shape"] == [
        ["image", which, [batch, *FACE]] for batch in (2, 3, 5) for which in (smallest, usual, largest)
    ]
    assert build["arrived"]["config.add_profile"] == 3 * [[build["address"]["profile"]]]


def test_the_input_and_every_output_must_be_dense_arrays(report):
    """By the format's number in this version. The stub's network has three outputs."""
    build = report["a_build"]
    assert build["arrived"]["network.get_output"] == [[0], [1], [2]]
    assert build["arrived"]["tensor.formats"] == 4 * [[1 << report["linear"]]]
    assert build["calls"].index("tensor.formats") > build["calls"].index("parser.parse")


def test_the_plan_has_every_byte_of_the_build(report):
    build = report["a_build"]
    assert build["arrived"]["builder.build"] == [[build["address"]["network"], build["address"]["config"]]]
    assert build["plan"] == PLAN


def test_a_timing_cache_is_read_before_the_build_and_written_after_it(report):
    build = report["a_build"]
    assert build["arrived"]["config.create_cache"] == ["old\0times"]
    assert build["arrived"]["config.set_cache"] == [[build["address"]["cache"], False]]
    in_order = [call for call in build["calls"] if call in ("config.set_cache", "builder.build", "cache.serialize")]
    assert in_order == ["config.set_cache", "builder.build", "cache.serialize"]
    assert build["times"] == TIMES


def test_a_timing_cache_that_does_not_exist_yet_begins_empty(report):
    assert report["a_second_build"] == {"read": [""], "times": TIMES}


@pytest.mark.parametrize("refused", ["set", "created"])
def test_a_timing_cache_that_tensorrt_refuses_is_not_used_and_is_replaced(report, refused):
    found = report["refused_times"][refused]
    assert (found["read"], found["built"], found["times"]) == (["their times", ""], True, TIMES)
    (line,) = found["lines"]
    assert line.endswith("TensorRT does not use these times, and measures again (they are of another GPU or TensorRT)")


def test_where_cuda_does_not_start_the_error_has_the_warning_that_says_why(report):
    for error in (report["a_start_that_fails"]["error"], report["a_start_that_fails"]["checked"]):
        assert "TensorRT cannot start (" in error
        assert "; warning: CUDA initialization failure with error: 35); install a driver that is new enough" in error


def test_progress_and_log_lines_arrive_from_the_bindings(report):
    build = report["a_build"]
    assert build["steps"][:3] == [["tactics", 0, 2], ["tactics", 1, 2], ["tactics", 2, 2]]
    assert build["log"] == ["[INFO] two tactics für image"]


def test_a_refused_graph_is_reported_with_the_parsers_error_and_nothing_is_built(report):
    refused = report["a_refused_graph"]
    assert "does not read this graph (no such operation)" in refused["error"]
    assert "does not read this graph (it has no outputs)" in refused["error_without_outputs"]
    assert not refused["built"]


def test_a_failed_build_is_reported_with_the_loggers_error(report):
    assert "cannot build this graph (no tactic for it)" in report["a_failed_build"]["error"]


def test_ctrl_c_ends_the_build_at_its_next_step(report):
    assert report["an_interrupted_build"]["interrupted"]
    begun, after_one_step_of_two, finished = 0, 1, 2
    assert report["an_interrupted_build"]["steps"] == [begun, after_one_step_of_two, finished]


def test_ctrl_c_ends_a_build_whose_steps_end_in_a_thread_of_tensorrt_while_the_main_thread_waits(report):
    found = report["a_build_interrupted_in_another_thread"]
    begun, after_one_step_of_two, finished = 0, 1, 2
    assert found["interrupted"] and found["steps"] == [begun, after_one_step_of_two, finished]
    before, afterwards = found["descriptor"]
    assert before == afterwards == -1


@pytest.mark.parametrize("scenario", ["a_build", "a_failed_build", "an_interrupted_build"])
def test_the_configuration_goes_before_its_builder_and_the_parser_after_the_build(report, scenario):
    """TensorRT crashes otherwise. These bindings ensure the first by themselves."""
    calls = report[scenario]["calls"]
    assert calls.index("config.free") < calls.index("builder.free")
    assert calls.index("builder.build") < calls.index("parser.free")


def test_the_bindings_refuse_arguments_of_a_wrong_type(report):
    """They are the real ones: they accept what TensorRT accepts."""
    assert report["a_wrong_call"] == {"refused": True}


def test_the_bindings_accept_the_calls_that_run_a_plan(report):
    assert report["a_run"]["arrived"] == {
        "runtime.deserialize": [PLAN],
        "engine.get_tensor_name": [[0], [1]],
        "engine.get_tensor_mode": [["image"]],
        "engine.get_tensor_dtype": [["image"]],
        "engine.get_tensor_format": [["image"]],
        "engine.get_tensor_shape": [["image"]],
        "context.set_profile": [[3, 0x7F0087654321]],
        "context.set_shape": [["image", [2, *FACE]]],
        "context.set_address": [["image", 0x7F0012345678]],
        "context.execute": [[0x7F0087654321]],
    }
    assert report["a_run"]["came_back"] == {
        "names": ["image", "u"],
        "is_read": True,
        "is_uint8": True,
        "is_linear": True,
        "shape": [-1, *FACE],
        "profile_is_set": True,
        "shape_is_set": True,
        "unspecified": [],
        "address_is_set": True,
        "runs": True,
    }


def test_the_members_that_run_a_plan_exist_in_every_tensorrt_and_in_rtx():
    everywhere = "1" * len(TABLE["versions"])
    rows = {f"{owner}.{member}" for owner, members in RUNNING.items() for member in members}
    assert {name for name in rows if TABLE["members"].get(name) != everywhere} == set()


def test_the_table_of_members_is_right_about_tensorrt_for_rtx():
    try:
        rtx = load_backend("rtx")[1]
    except EngineError as error:
        pytest.skip(str(error))
    assert not wrong_rows("rtx", lambda owner: dir(getattr(rtx, owner, None)))
