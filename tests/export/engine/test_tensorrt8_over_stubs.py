"""The builder and the session call the real bindings of TensorRT 8.6. Behind them is a stub of TensorRT.

The stub's network has the layers of LAYERS in tests/doubles/gpu/tensorrt_stubs/report_calls_8.py.
"""

from __future__ import annotations

import onnx
import pytest

from doubles.gpu.tensorrt_over_stubs import BINDINGS_8, compile_stubs, need_stubs, run_over_stubs

FLOAT, HALF = 0, 1
CONVOLUTION, SHUFFLE_OF_IT, MEAN = 2, 3, 7
"""Places of layers in LAYERS."""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    need_stubs()
    folder = tmp_path_factory.mktemp("libraries")
    compile_stubs(folder)
    (version,) = BINDINGS_8
    return run_over_stubs(version, folder, "report_calls_8.py", folder)


def test_the_network_has_the_number_of_faces_as_a_dimension(report):
    explicit_batch = 0
    assert report["half"]["arrived"]["builder.create_network"] == [[1 << explicit_batch]]
    assert report["version"] == "8.6.1" and report["half"]["plan"]


def test_the_parser_gets_the_graph_in_opset_17(report):
    (parsed,) = report["half"]["arrived"]["parser.parse"]
    graph = onnx.load_from_string(parsed.encode("latin-1"))
    assert [each.version for each in graph.opset_import] == [17]
    assert list(graph.graph.node[-1].input) == ["f"]


def test_every_layer_of_numbers_computes_and_answers_in_the_type_of_the_graph(report):
    """The parser's own layer has the type of what it reads. Casts, constants and layers of integers stay alone."""
    arrived = report["half"]["arrived"]
    assert arrived["layer.precision"] == [[CONVOLUTION, HALF], [SHUFFLE_OF_IT, HALF], [MEAN, FLOAT]]
    assert arrived["layer.set_output_type"] == [[CONVOLUTION, 0, HALF], [SHUFFLE_OF_IT, 0, HALF], [MEAN, 0, FLOAT]]
    assert arrived["output.set_type"] == [[FLOAT]]


def test_the_builder_obeys_and_may_use_half_precision_only_for_a_graph_that_has_it(report):
    flags = report["flags"]
    assert report["half"]["arrived"]["config.set_flag"] == [[flags["OBEY_PRECISION_CONSTRAINTS"]], [flags["FP16"]]]
    single = report["single"]["arrived"]
    assert single["config.set_flag"] == [[flags["OBEY_PRECISION_CONSTRAINTS"]]]
    assert single["layer.precision"] == [[CONVOLUTION, FLOAT], [SHUFFLE_OF_IT, FLOAT], [MEAN, FLOAT]]
    assert report["half"]["arrived"]["config.clear_flag"] == [[flags["TF32"]]]


def test_types_are_set_after_the_parser_and_before_the_build(report):
    calls = report["half"]["calls"]
    assert calls.index("parser.parse") < calls.index("layer.precision") < calls.index("builder.build")


def test_every_batch_has_a_profile_and_contexts_may_share_it(report):
    arrived = report["half"]["arrived"]
    assert arrived["profile.set_shape"] == [
        ["image", which, [batch, 64, 64, 3]] for batch in (2, 5) for which in (0, 1, 2)
    ]
    assert arrived["config.preview"] == [[report["profile_sharing"], True]]


def test_the_configuration_goes_before_its_builder_and_the_parser_after_the_build(report):
    calls = report["half"]["calls"]
    assert calls.index("config.free") < calls.index("builder.free")
    assert calls.index("builder.build") < calls.index("parser.free")


def test_a_context_works_in_the_given_memory_with_its_profile(report):
    context = report["context"]
    assert context["made"] and context["scratch"] == 4096
    assert context["arrived"]["context.memory"] == [[0x7F0012345678]]
    assert context["arrived"]["context.profile"] == [[3, 0x7F0087654321]]
