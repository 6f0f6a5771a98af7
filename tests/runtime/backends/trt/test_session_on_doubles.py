"""The TensorRT session, with the real pycuda and the real kernel source, over doubles of the driver and of TensorRT.

The doubles check the order of the calls and the use of memory. They cannot show what a GPU does.
"""

from __future__ import annotations

import json

import pytest

from iern.runtime.backends.trt.engine_file import manifest_path
from repository import PHOTOS

PHOTO = PHOTOS / "obama_portrait.jpg"
ENGINES = [
    *(("kernel", network) for network in ("windowed", "pooled", "mean of softmaxes", "single precision")),
    ("native", "windowed"),
]
HALF_ROUNDING = 5e-4
"""Logits. onnxruntime fuses other operations if the graph ends at the maps."""


@pytest.mark.parametrize(("head", "network"), ENGINES)
def test_over_doubles_any_number_of_faces_gets_the_outputs_of_the_exported_file(
    run_on_doubles, engine_on_doubles, head, network
):
    path = engine_on_doubles(head, network)
    run_on_doubles(
        """
        path, onnx, head, rounding = sys.argv[1:]
        with open_session(path) as session, open_session(onnx, "cpu") as plain:
            assert (session.provider, session.note) == (f"tensorrt, head {head}", "")
            assert session.max_batch == 5 and session.artifact == plain.artifact
            for number in (0, 1, 2, 3, 4, 5, 6, 13, 1):
                assert largest_difference(session(faces(number)), plain(faces(number))) <= float(rounding), number
            assert largest_difference(session(faces(3)), plain(faces(3, seed=1))) > 100 * float(rounding)
        assert is_clean()
        """,
        *(path, path.with_suffix(".onnx"), head),
        1e-6 if head == "native" or network == "single precision" else HALF_ROUNDING,
    )


def test_over_doubles_every_call_is_one_replay(run_on_doubles, engine_on_doubles):
    run_on_doubles(
        """
        with open_session(sys.argv[1]) as session:
            replays, kernels = count("replays"), count("kernels")
            fail("cuLaunchKernel", 999)  # a single call would fail
            for number in (1, 2, 5, 12):
                session(faces(number))
            assert count("replays") - replays == count("kernels") - kernels == 1 + 1 + 1 + 3
        """,
        engine_on_doubles("kernel"),
    )


def test_over_doubles_a_session_without_a_cuda_graph_makes_single_calls_with_the_same_outputs(
    run_on_doubles, engine_on_doubles
):
    run_on_doubles(
        """
        from iern.runtime.backends.trt.session import TensorRtSession
        with TensorRtSession(sys.argv[1]) as session:
            expected = session(faces(3))
        replays = count("replays")
        with TensorRtSession(sys.argv[1], graph=False) as session:
            assert session.note == "without a CUDA graph, as requested"
            assert largest_difference(session(faces(3)), expected) == 0
        assert count("replays") == replays
        assert is_clean()
        """,
        engine_on_doubles("kernel"),
    )


@pytest.mark.parametrize("head", ["kernel", "native"])
@pytest.mark.parametrize("function", ["cuStreamBeginCapture", "cuGraphInstantiateWithFlags", "cuGraphLaunch"])
def test_over_doubles_a_driver_that_cannot_record_gets_single_calls_and_the_note_has_the_reason(
    run_on_doubles, engine_on_doubles, head, function
):
    run_on_doubles(
        """
        path, function = sys.argv[1:]
        with open_session(path, max_batch=1) as session:
            expected = session(faces(1))
        fail(function, 801)
        with open_session(path, max_batch=1) as session:
            replays = count("replays")
            assert session.note.startswith(f"without a CUDA graph, which would be faster ({function}"), session.note
            assert largest_difference(session(faces(1)), expected) == 0
            assert count("replays") == replays
        assert is_clean()
        """,
        *(engine_on_doubles(head), function),
    )


def test_over_doubles_an_allocation_during_the_recording_is_refused_and_single_calls_follow(
    run_on_doubles, engine_on_doubles
):
    run_on_doubles(
        """
        import pycuda.driver as cuda
        def allocating(context, stream, plain=engine_double.IExecutionContext.execute_async_v3):
            cuda.mem_alloc(1)
            return plain(context, stream)
        with open_session(sys.argv[1]) as session:
            expected = session(faces(4))
        engine_double.IExecutionContext.execute_async_v3 = allocating
        with open_session(sys.argv[1]) as session:
            assert "operation not permitted when stream is capturing" in session.note, session.note
            assert largest_difference(session(faces(4)), expected) == 0
        assert is_clean()
        """,
        engine_on_doubles("kernel"),
    )


def test_over_doubles_other_threads_may_allocate_and_use_the_default_stream_during_the_recording(
    run_on_doubles, engine_on_doubles
):
    run_on_doubles(
        """
        from concurrent.futures import ThreadPoolExecutor
        from iern.runtime.backends.trt.cuda_context import cuda_device
        device = cuda_device()
        def others_work():
            with device.current():
                memory = device.driver.mem_alloc(4)
                device.driver.memcpy_htod(memory, np.zeros(1, np.float32))
                memory.free()
                del memory
        def beside_others(context, stream, plain=engine_double.IExecutionContext.execute_async_v3):
            with ThreadPoolExecutor(1) as pool:
                pool.submit(others_work).result()
            return plain(context, stream)
        engine_double.IExecutionContext.execute_async_v3 = beside_others
        with open_session(sys.argv[1]) as session:
            assert session.note == ""
            session(faces(1))
        assert is_clean()
        """,
        engine_on_doubles("kernel"),
    )


def test_over_doubles_without_a_run_before_it_the_recording_fails(run_on_doubles, engine_on_doubles):
    run_on_doubles(
        """
        from iern.runtime.backends.trt.batch import EngineBatch
        def idle_at_first(batch, plain=EngineBatch._run):
            if hasattr(batch, "note") or batch._graph:
                plain(batch)
        EngineBatch._run = idle_at_first
        with open_session(sys.argv[1]) as session:
            assert "TensorRT does not run (Cuda failure: stream is capturing)" in session.note, session.note
        """,
        engine_on_doubles("kernel"),
    )


@pytest.mark.parametrize("head", ["kernel", "native"])
def test_over_doubles_a_session_that_does_not_wait_returns_old_outputs(run_on_doubles, engine_on_doubles, head):
    run_on_doubles(
        """
        from iern.runtime.backends.trt.batch import EngineBatch
        with open_session(sys.argv[1]) as session:
            right = session(faces(2))
            EngineBatch._run, waiting = lambda batch: batch._graph.launch(), EngineBatch._run
            assert largest_difference(session(faces(2, seed=1)), right) == 0  # the outputs of the call before
            EngineBatch._run = waiting
            session(faces(2))
        """,
        engine_on_doubles(head),
    )


def test_over_doubles_an_input_that_is_overwritten_too_early_gives_other_outputs(run_on_doubles, engine_on_doubles):
    run_on_doubles(
        """
        from iern.runtime.backends.trt.batch import EngineBatch
        def overwriting(batch, plain=EngineBatch._run):
            batch._graph.launch()
            batch._faces[:] = 0
            batch._stream.synchronize()
        with open_session(sys.argv[1]) as session:
            right = session(faces(2))
            EngineBatch._run = overwriting
            assert not largest_difference(session(faces(2)), right) < 1e-2
        """,
        engine_on_doubles("native"),
    )


def test_over_doubles_outputs_are_new_arrays_without_faces_of_an_earlier_batch(run_on_doubles, engine_on_doubles):
    run_on_doubles(
        """
        with open_session(sys.argv[1]) as session:
            first = session(faces(3))
            kept = [np.copy(array) for array in vars(first).values()]
            session(faces(5, seed=1))
            again = session(faces(3))
            for array, before, after in zip(vars(first).values(), kept, vars(again).values()):
                assert (array == before).all() and (array == after).all() and array.flags.owndata
            view = faces(6)[::2, :, ::-1]
            assert largest_difference(session(view), session(np.ascontiguousarray(view))) == 0
        """,
        engine_on_doubles("kernel"),
    )


def test_over_doubles_sessions_share_a_process_and_each_call_comes_from_another_thread(
    run_on_doubles, engine_on_doubles
):
    run_on_doubles(
        """
        from concurrent.futures import ThreadPoolExecutor
        def elsewhere(call, *arguments):
            with ThreadPoolExecutor(1) as pool:  # whose thread ends with the block
                return pool.submit(call, *arguments).result()
        kernel, native, onnx = sys.argv[1:]
        first = elsewhere(open_session, kernel)
        with open_session(onnx, "cpu") as plain, open_session(native) as second:
            for number in (1, 4, 7):
                expected = plain(faces(number))
                for session in (first, second, first):
                    assert largest_difference(elsewhere(session, faces(number)), expected) < 5e-4
                    assert largest_difference(session(faces(number)), expected) < 5e-4
            elsewhere(first.close)
            assert largest_difference(elsewhere(second, faces(4)), plain(faces(4))) < 5e-4
        assert is_clean() and count("retained") == 1
        """,
        *(engine_on_doubles("kernel"), engine_on_doubles("native"), engine_on_doubles("native").with_suffix(".onnx")),
    )


def test_over_doubles_closing_frees_everything_in_order_and_may_be_repeated(run_on_doubles, engine_on_doubles):
    run_on_doubles(
        """
        order = []
        for kind in (engine_double.Runtime, engine_double.ICudaEngine, engine_double.IExecutionContext):
            def ended(thing, plain=kind.__del__):
                order.append((type(thing).__name__, count("pushed"), count("graphs"), count("streams")))
                plain(thing)
            kind.__del__ = ended
        session = open_session(sys.argv[1])
        session.close()
        session.close()
        assert order == [*(3 * [("IExecutionContext", 1, 0, 1)]), ("ICudaEngine", 1, 0, 1), ("Runtime", 1, 0, 1)], order
        assert is_clean()
        for number in (1, 0):
            try:
                session(faces(number))
            except SessionError as error:
                assert "the session is closed; open the model again" in str(error)
            else:
                raise AssertionError
        assert is_clean()
        """,
        engine_on_doubles("kernel"),
    )


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_over_doubles_a_process_that_closes_nothing_ends_without_output(run_on_doubles, engine_on_doubles, where):
    run_on_doubles(
        """
        import threading
        path, where = sys.argv[1:]
        def use():
            global session
            session = open_session(path)
            session(faces(1))
        if where == "here":
            use()
        else:
            thread = threading.Thread(target=use)
            thread.start()
            thread.join()
        """,
        *(engine_on_doubles("kernel"), where),
    )


def test_over_doubles_the_loop_and_the_doctors_probe_take_an_engine(run_on_doubles, engine_on_doubles, tmp_path):
    output = run_on_doubles(
        """
        from iern.runtime import webcam
        from iern.runtime.doctor import probes
        path, photo, lines = sys.argv[1:]
        assert webcam.main(["--model", path, "--source", photo, "--headless", "--jsonl", lines]) == 0
        assert probes.model(path)["provider"] == "tensorrt, head kernel"
        assert is_clean()
        """,
        *(engine_on_doubles("kernel"), PHOTO, tmp_path / "lines.jsonl"),
    )
    assert "kernel windowed.engine on tensorrt, head kernel" in output
    (record,) = map(json.loads, (tmp_path / "lines.jsonl").read_text(encoding="utf-8").splitlines())
    assert len(record["faces"]) == 1


def test_over_doubles_tensorrt_for_rtx_compiles_for_its_shapes_before_it_is_recorded(
    run_on_doubles, engine_on_doubles, tmp_path
):
    """The double of its runtime configuration requires it."""
    path = engine_on_doubles("kernel")
    for file in path.parent.glob(f"{path.stem}*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    copy = tmp_path / path.name
    manifest = json.loads(manifest_path(copy).read_text(encoding="utf-8"))
    manifest_path(copy).write_text(json.dumps({**manifest, "backend": "rtx", "targets": ["sm_87"]}), encoding="utf-8")
    run_on_doubles(
        """
        rtx, plain = map(open_session, sys.argv[1:])
        assert (rtx.provider, rtx.note) == ("tensorrt for rtx, head kernel", "")
        assert largest_difference(rtx(faces(4)), plain(faces(4))) == 0
        """,
        *(copy, path),
    )
