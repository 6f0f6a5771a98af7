"""GET /v1/camera: frames go in, records come out, faces are followed, and the newest frame wins."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import cv2
import numpy as np
import pytest

from doubles.servers.page_client import fetch, until
from doubles.servers.service import HeldRecognition, metric, service
from iern.runtime.faces.pipeline import FacePipeline
from repository import PHOTOS

PHOTO = cv2.imread(str(PHOTOS / "astronaut.jpg"))


def encoded(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


FRAMES = [encoded(np.roll(PHOTO, 4 * step, axis=1)) for step in range(4)]


def talk(url: str, work: Callable[[Any], Awaitable[Any]], **options: Any) -> Any:
    """Open the WebSocket and do the work with it."""

    async def run() -> Any:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}v1/camera", **options) as socket:
            return await asyncio.wait_for(work(socket), 60)

    return asyncio.run(run())


async def answer(socket: Any, frame: bytes) -> dict[str, Any]:
    await socket.send_bytes(frame)
    return json.loads(await socket.receive_str())


def test_the_answers_are_those_of_the_librarys_pipeline_with_its_tracks(recognition):
    with service(recognition) as url:

        async def work(socket):
            return [await answer(socket, frame) for frame in FRAMES]

        records = talk(url, work)
    pipeline = FacePipeline(recognition._detector, recognition.session)
    for number, (record, frame) in enumerate(zip(records, FRAMES, strict=True)):
        image = cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_COLOR)
        (expected,) = pipeline(image, record["time"]).faces
        (face,) = record["faces"]
        assert (record["frame"], record["dropped"], face["track"]) == (number, 0, expected.track)
        assert face["raw_probabilities"] == pytest.approx(expected.raw_probabilities, abs=1e-5)
        assert face["probabilities"] == pytest.approx(expected.probabilities, abs=1e-2)  # `time` is rounded
    assert [record["time"] for record in records] == sorted({record["time"] for record in records})
    assert len({record["start"] for record in records}) == 1


def test_while_the_service_works_the_newest_frame_wins_and_the_others_are_counted(recognition):
    held = HeldRecognition(recognition)
    with service(held) as url:

        async def work(socket):
            await socket.send_bytes(FRAMES[0])
            await asyncio.to_thread(until, lambda: held.batches == [1])
            for frame in FRAMES[1:]:
                await socket.send_bytes(frame)
            await socket.send_str("hello")  # its answer shows that the frames before it have come
            refusal = json.loads(await socket.receive_str())
            held.may_run.set()
            return refusal, [json.loads(await socket.receive_str()) for _ in range(2)]

        refusal, records = talk(url, work)
        assert until(lambda: metric(url, "iern_viewers") == 0)
        assert metric(url, "iern_dropped_frames_total") == 2
    assert "binary" in refusal["error"]
    assert [(record["frame"], record["dropped"]) for record in records] == [(0, 2), (3, 2)]


def test_a_frame_that_cannot_be_used_is_reported_with_its_number_and_the_next_is_answered(recognition):
    with service(recognition, megapixels=0.3) as url:

        async def work(socket):
            frames = (b"no picture", encoded(np.zeros((600, 600), np.uint8)), encoded(PHOTO[:300, :400]))
            return [await answer(socket, frame) for frame in frames]

        *errors, record = talk(url, work)
    assert [error["frame"] for error in errors] == [0, 1]
    assert "no picture" in errors[0]["error"]
    assert "600x600 pixels" in errors[1]["error"]
    assert record["frame"] == 2
    assert record["faces"]


def test_frames_of_two_cameras_and_a_picture_share_a_batch_and_keep_their_own_tracks(recognition):
    held = HeldRecognition(recognition)
    with service(held) as url:

        async def run():
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(f"{url}v1/camera") as one,
                session.ws_connect(f"{url}v1/camera") as two,
            ):
                picture = asyncio.ensure_future(session.post(f"{url}v1/faces", data=FRAMES[0]))
                await asyncio.to_thread(until, lambda: held.batches == [1])
                waiting = [asyncio.ensure_future(answer(each, FRAMES[0])) for each in (one, two)]
                more = asyncio.ensure_future(session.post(f"{url}v1/faces", data=FRAMES[1]))
                await asyncio.to_thread(until, lambda: metric(url, "iern_waiting_requests") == 2)
                await asyncio.sleep(0.2)
                held.may_run.set()
                replies = [await (await reply).json() for reply in (picture, more)]
                return replies, await asyncio.gather(*waiting)

        replies, records = asyncio.run(asyncio.wait_for(run(), 60))
    assert held.batches == [1, 3]
    assert [reply["faces"][0]["track"] for reply in replies] == [None, None]
    assert [record["faces"][0]["track"] for record in records] == [1, 1]


def test_a_frame_that_is_too_large_ends_the_connection_with_the_code_for_that(recognition):
    async def work(socket):
        await socket.send_bytes(bytes(3_000_000))
        await socket.receive()
        return socket.close_code

    with service(recognition) as url:
        assert talk(url, work) == 1009


def test_more_cameras_than_allowed_are_refused(recognition):
    with service(recognition, cameras=1) as url:

        async def work(socket):
            return await asyncio.to_thread(fetch, f"{url}v1/camera")

        refusal = talk(url, work)
    assert refusal.status == 503
    assert "Retry-After" in refusal.headers


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Host": "evil.example"}])
def test_the_page_of_another_site_cannot_open_a_camera(recognition, headers):
    with service(recognition) as url, pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        talk(url, asyncio.sleep, headers=headers)
    assert refusal.value.status == 403


def test_a_stopping_service_tells_its_cameras(recognition):
    codes = []
    with service(recognition) as url:
        opened = threading.Event()

        async def work(socket):
            await answer(socket, FRAMES[0])
            opened.set()
            await socket.receive()
            codes.append(socket.close_code)

        thread = threading.Thread(target=talk, args=(url, work))
        thread.start()
        assert opened.wait(60)
    thread.join(60)
    assert codes == [1001]
