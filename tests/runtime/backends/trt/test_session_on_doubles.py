"""The TensorRT session, by the real pycuda and the real kernels' source, over doubles of the driver and of TensorRT.

The doubles show whether calls are made in an order and with memory that is right. They cannot show that a GPU agrees.
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
"""Logits; onnxruntime fuses other operations where the graph ends at the maps."""


@pytest.mark.parametrize(("head", "network"), ENGINES)
def test_over_doubles_any_number_of_faces_gets_the_answers_of_the_exported_file(
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
                assert furthest(session(faces(number)), plain(faces(number))) <= float(rounding), number
            assert furthest(session(faces(3)), plain(faces(3, seed=1))) > 100 * float(rounding)
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
            fail("cuLaunchKernel", 999)  # which it would meet if it sent the pieces
            for number in (1, 2, 5, 12):
                session(faces(number))
            assert count("replays") - replays == count("kernels") - kernels == 1 + 1 + 1 + 3
        """,
        engine_on_doubles("kernel"),
    )


def test_over_doubles_a_session_asked_to_record_nothing_sends_pieces_and_answers_the_same(
    run_on_doubles, engine_on_doubles
):
    run_on_doubles(
        """
        from iern.runtime.backends.trt.session import TensorRtSession
        with TensorRtSession(sys.argv[1]) as session:
            expected = session(faces(3))
        replays = count("replays")
        with TensorRtSession(sys.argv[1], graph=False) as session:
            assert session.note == "without a CUDA graph, as asked"
            assert furthest(session(faces(3)), expected) == 0
        assert count("replays") == replays
        assert is_clean()
        """,
        engine_on_doubles("kernel"),
    )


@pytest.mark.parametrize("head", ["kernel", "native"])
@pytest.mark.parametrize("function", ["cuStreamBeginCapture", "cuGraphInstantiateWithFlags", "cuGraphLaunch"])
def test_over_doubles_a_driver_that_cannot_record_gets_the_pieces_and_the_note_says_why(
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
            assert furthest(session(faces(1)), expected) == 0
            assert count("replays") == replays
        assert is_clean()
        """,
        *(engine_on_doubles(head), function),
    )


def test_over_doubles_what_allocates_while_it_is_recorded_is_refused_and_then_runs_in_pieces(
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
            assert furthest(session(faces(4)), expected) == 0
        assert is_clean()
        """,
        engine_on_doubles("kernel"),
    )


def test_over_doubles_others_may_use_the_default_stream_and_allocate_while_it_is_recorded(
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


def test_over_doubles_without_the_run_before_it_nothing_can_be_recorded(run_on_doubles, engine_on_doubles):
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
def test_over_doubles_a_session_that_does_not_wait_is_found_out(run_on_doubles, engine_on_doubles, head):
    run_on_doubles(
        """
        from iern.runtime.backends.trt.batch import EngineBatch
        with open_session(sys.argv[1]) as session:
            right = session(faces(2))
            EngineBatch._run, waiting = lambda batch: batch._graph.launch(), EngineBatch._run
            assert furthest(session(faces(2, seed=1)), right) == 0  # the answer of the call before
            EngineBatch._run = waiting
            session(faces(2))
        """,
        engine_on_doubles(head),
    )


def test_over_doubles_an_input_overwritten_while_it_is_on_its_way_is_found_out(run_on_doubles, engine_on_doubles):
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
            assert not furthest(session(faces(2)), right) < 1e-2
        """,
        engine_on_doubles("native"),
    )


def test_over_doubles_an_answer_is_the_callers_own_and_nothing_of_an_earlier_batch_is_seen(
    run_on_doubles, engine_on_doubles
):
    run_on_doubles(
        """
        with open_session(sys.argv[1]) as session:
            first = session(faces(3))
            kept = [np.copy(array) for array in vars(first).values()]
            session(faces(5, seed=1))
            again = session(faces(3))
            for array, before, after in zip(vars(first).values(), kept, vars(again).values()):
                assert (array == before).all() and (array == after).all() and array.flags.owndata
            assert furthest(session(faces(6)[::2, :, ::-1]), session(np.ascontiguousarray(faces(6)[::2, :, ::-1]))) == 0
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
                    assert furthest(elsewhere(session, faces(number)), expected) < 5e-4
                    assert furthest(session(faces(number)), expected) < 5e-4
            elsewhere(first.close)
            assert furthest(elsewhere(second, faces(4)), plain(faces(4))) < 5e-4
        assert is_clean() and count("retained") == 1
        """,
        *(engine_on_doubles("kernel"), engine_on_doubles("native"), engine_on_doubles("native").with_suffix(".onnx")),
    )


def test_over_doubles_closing_gives_everything_back_in_order_and_twice_is_once(run_on_doubles, engine_on_doubles):
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
        try:
            session(faces(1))
        except SessionError as error:
            assert "the session is closed; open the model again" in str(error)
        else:
            raise AssertionError
        assert len(session(faces(0)).logits) == 0 and is_clean()
        """,
        engine_on_doubles("kernel"),
    )


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_over_doubles_a_process_that_closes_nothing_ends_in_silence(run_on_doubles, engine_on_doubles, where):
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
    said = run_on_doubles(
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
    assert "kernel windowed.engine on tensorrt, head kernel" in said
    (record,) = map(json.loads, (tmp_path / "lines.jsonl").read_text(encoding="utf-8").splitlines())
    assert len(record["faces"]) == 1


def test_over_doubles_tensorrt_for_rtx_compiles_for_its_shapes_before_it_is_recorded(
    run_on_doubles, engine_on_doubles, tmp_path
):
    """The double of its runtime configuration insists on it."""
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
        assert furthest(rtx(faces(4)), plain(faces(4))) == 0
        """,
        *(copy, path),
    )
