"""Profiles and clocks of the TensorRT session, with the real pycuda over doubles of the driver and of TensorRT.

The double of the driver needs a millisecond for each copy, kernel and function of the host that the GPU works off.
"""

from __future__ import annotations

import os

import pytest

from repository import ROOT


def test_over_doubles_each_batch_has_the_profile_of_its_size_and_a_smaller_session_prepares_fewer(
    run_on_doubles, engine_on_doubles
):
    """The engine has profiles for 1, 2 and 5 faces. The double refuses a shape that is not that of the chosen one."""
    run_on_doubles(
        """
        path, onnx = sys.argv[1:]
        chosen = []
        def choosing(context, profile, stream, plain=engine_double.IExecutionContext.set_optimization_profile_async):
            chosen.append(profile)
            return plain(context, profile, stream)
        engine_double.IExecutionContext.set_optimization_profile_async = choosing
        with open_session(onnx, "cpu") as plain:
            for largest, profiles in ((1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (16, [0, 1, 2])):
                chosen.clear()
                with open_session(path, max_batch=largest) as session:
                    assert chosen == profiles and session.max_batch == min(largest, 5), (largest, chosen)
                    for number in (1, 3, 7):
                        assert largest_difference(session(faces(number)), plain(faces(number))) <= 1e-6
        assert is_clean()
        """,
        engine_on_doubles("native"),
        engine_on_doubles("native").with_suffix(".onnx"),
    )


def test_over_doubles_a_profile_that_tensorrt_refuses_ends_the_opening(run_on_doubles, engine_on_doubles):
    run_on_doubles(
        """
        engine_double.IExecutionContext.set_optimization_profile_async = lambda *_: False
        assert "cannot make an execution context" in refusal(sys.argv[1], SessionError)
        assert is_clean()
        """,
        engine_on_doubles("native"),
    )


@pytest.mark.parametrize(("head", "work"), [("native", 3), ("kernel", 4)])
def test_over_doubles_a_timed_call_has_the_time_of_the_work_on_the_sessions_own_stream(
    run_on_doubles, engine_on_doubles, head, work
):
    """Copy, engine, kernel and copy back, whether replayed or sent one by one. Other streams are not in it."""
    run_on_doubles(
        """
        import pycuda.driver as cuda
        from iern.runtime.backends.trt.cuda_context import cuda_device
        from iern.runtime.backends.trt.session import TensorRtSession
        path, work = sys.argv[1:]
        with cuda_device().current():
            memory = cuda.mem_alloc(4)
        for graph in (True, False):
            with TensorRtSession(path, graph=graph) as session:
                for number in (1, 4):
                    with cuda_device().current():
                        cuda.memset_d32_async(memory, 0, 1)  # waits on the default stream
                    predictions, milliseconds = session.timed(faces(number))
                    assert milliseconds == int(work), milliseconds
                    assert largest_difference(predictions, session(faces(number))) == 0
                for number in (0, 6):
                    try:
                        session.timed(faces(number))
                    except SessionError as error:
                        assert f"expected 1 to 5 faces in a call that is timed, found {number}" in str(error)
                    else:
                        raise AssertionError
        with cuda_device().current():
            memory.free()
        try:
            session.timed(faces(1))
        except SessionError as error:
            assert "the session is closed" in str(error)
        else:
            raise AssertionError
        assert is_clean()
        """,
        engine_on_doubles(head),
        work,
    )


@pytest.mark.parametrize("head", ["native", "kernel"])
def test_over_doubles_the_gpu_check_finds_a_replay_equal_to_single_calls_and_notices_if_it_is_not(
    run_on_doubles, engine_on_doubles, head
):
    run_on_doubles(
        """
        import pytest
        from benchmarks.gpu_check.replay import compare_sessions
        from iern.runtime.backends.trt.batch import EngineBatch
        from iern.runtime.backends.trt.session import TensorRtSession
        path, onnx = sys.argv[1:]
        unrecorded = TensorRtSession(path, graph=False)
        with TensorRtSession(path) as recorded, unrecorded as single, open_session(onnx) as plain:
            found = compare_sessions(recorded, single, plain, most=7)
            assert found["counts"] == 7 and found["probability_error"] < 1e-3
            def hurried(batch, end=None, waiting=EngineBatch._run):
                batch._graph.launch() if batch._graph else waiting(batch, end)
            EngineBatch._run = hurried
            with pytest.raises(EngineError, match="the replay's probabilities differ from those"):
                compare_sessions(recorded, single, plain, most=2)
        """,
        engine_on_doubles(head),
        engine_on_doubles(head).with_suffix(".onnx"),
        PYTHONPATH=os.pathsep.join([doubles_path(), str(ROOT)]),
    )


def doubles_path() -> str:
    from doubles.gpu.pycuda_on_double import environment

    return environment()["PYTHONPATH"]
