"""A source takes a file for what its content is, alone and in a folder, and reports every file that it uses in part."""

from __future__ import annotations

import io
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from iern.runtime.errors import SourceError
from iern.runtime.sources.open_source import open_source

COLOURS = ("red", "lime", "blue")


def images() -> list[Image.Image]:
    """Three images of one colour each; one pixel differs, so that a GIF has a palette worth its name."""
    made = [Image.new("RGB", (64, 48), colour) for colour in COLOURS]
    for image in made:
        image.putpixel((0, 0), (255, 255, 255))
    return made


def encoded(kind: str, count: int = 1, **options: object) -> bytes:
    first, *others = images()
    buffer = io.BytesIO()
    if count > 1:
        options |= {"save_all": True, "append_images": others[: count - 1]}
    first.save(buffer, kind, **options)
    return buffer.getvalue()


def photo_with_zeros() -> bytes:
    """A JPEG of noise whose middle is zeroed. OpenCV decodes it to garbage without an error."""
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    content = cv2.imencode(".jpg", noise)[1].tobytes()
    middle = len(content) // 2
    return content[:middle] + bytes(500) + content[middle + 500 :]


def video() -> bytes:
    """Five frames, as an AVI."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", "avi") as container:
        stream = container.add_stream("mjpeg", 10, width=64, height=48, pix_fmt="yuvj420p")
        for level in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * level, np.uint8), "bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def colour(image: np.ndarray) -> str:
    """The name of the colour in the middle."""
    return COLOURS[2 - int(image[24, 32].argmax())]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "JPEG2000", "PPM"])
@pytest.mark.parametrize("name", ["photo", "photo.mp4", "photo.jfif"])
def test_an_image_of_any_kind_and_name_is_opened_as_one_photograph(tmp_path, kind, name):
    (tmp_path / name).write_bytes(encoded(kind))
    with open_source(tmp_path / name) as source:
        (frame,) = source
    assert (frame.photograph, colour(frame.image), source.note) == (True, "red", "")


@pytest.mark.parametrize("name", ["clip.jpg", "clip.png", "clip"])
def test_a_video_with_the_name_of_an_image_is_opened_as_a_video(tmp_path, name):
    (tmp_path / name).write_bytes(video())
    frames = list(open_source(tmp_path / name))
    assert len(frames) == 5
    assert not any(frame.photograph for frame in frames)


@pytest.mark.parametrize("name", ["smile.gif", "smile.jpg"])
def test_every_frame_of_an_animated_gif_is_shown_and_a_still_one_is_an_image(tmp_path, name):
    (tmp_path / name).write_bytes(encoded("GIF", 3, duration=100))
    assert [colour(frame.image) for frame in open_source(tmp_path / name)] == list(COLOURS)
    (tmp_path / name).write_bytes(encoded("GIF"))
    assert [frame.photograph for frame in open_source(tmp_path / name)] == [True]


def test_a_row_of_jpegs_is_a_video_whatever_its_name(tmp_path):
    (tmp_path / "camera.jpg").write_bytes(encoded("JPEG") * 4)
    assert len(list(open_source(tmp_path / "camera.jpg"))) == 4


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "TIFF", "AVIF"])
def test_of_an_animation_or_of_several_pages_the_first_image_is_read_and_the_others_are_reported(tmp_path, kind):
    path = tmp_path / f"several.{kind.lower()}"
    path.write_bytes(encoded(kind, 3))
    source = open_source(path)
    (frame,) = source
    assert colour(frame.image) == "red"
    assert source.note == f"{path.name} holds 3 images, only the first is read"


def test_a_folder_takes_images_of_every_kind_and_name_and_counts_what_it_leaves_out(tmp_path):
    content = {
        "a.gif": encoded("GIF"),
        "b.avif": encoded("AVIF"),
        "c.jfif": encoded("JPEG"),
        "d.jp2": encoded("JPEG2000"),
        "e": encoded("PNG"),
        "f.mp4": encoded("WEBP"),
        "notes.txt": b"three faces",
        "video.avi": video(),
        "x.csv": b"a,b\n",
        ".DS_Store": b"hidden",
        "._a.gif": b"hidden",
    }
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    source = open_source(tmp_path)
    assert [frame.name for frame in source] == ["a.gif", "b.avif", "c.jfif", "d.jp2", "e", "f.mp4"]
    assert source.note == "3 files are no images and were skipped, the first is notes.txt"
    assert source.skipped == 0


def test_a_folder_reports_unreadable_damaged_and_partly_read_images_in_one_line(tmp_path):
    content = {
        "a.jpg": photo_with_zeros(),
        "b.jpg": photo_with_zeros(),
        "c.jpg": b"",
        "d.tif": encoded("TIFF", 3),
        "e.gif": encoded("GIF", 2, duration=100),
        "f.png": encoded("PNG"),
        "g.txt": b"hello",
    }
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    source = open_source(tmp_path)
    assert [frame.name for frame in source] == ["a.jpg", "b.jpg", "d.tif", "e.gif", "f.png"]
    for part in (
        "skipped 1 of 6 images; the first: ",
        "; 1 file is no image and was skipped, the first is g.txt; ",
        "; 2 damaged images; the first: a.jpg is damaged inside, so part of it is garbage (Corrupt JPEG data",
        "; 2 files of several images; the first: d.tif holds 3 images, only the first is read",
    ):
        assert part in source.note
    assert "\n" not in source.note


def test_a_damaged_photograph_is_shown_and_reported_with_its_name(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(photo_with_zeros())
    source = open_source(tmp_path / "photo.jpg")
    (frame,) = source
    assert frame.image.shape == (200, 200, 3)
    assert source.note.startswith("photo.jpg is damaged inside, so part of it is garbage (Corrupt JPEG data")


def test_a_folder_of_files_that_are_no_images_is_refused(tmp_path):
    for name in ("a.txt", "b.csv"):
        (tmp_path / name).write_bytes(b"hello")
    with pytest.raises(SourceError, match=r"no images among its 2 files; expected \.jpg, .*"):
        open_source(tmp_path)


@pytest.mark.parametrize("name", ["face.jpg", "face.gif", "face.heic", "face.avif"])
def test_a_file_that_is_neither_image_nor_video_is_refused_as_its_name_suggests(tmp_path, name):
    Path(tmp_path / name).write_bytes(b"hello\n" * 50)
    with pytest.raises(SourceError, match=r"face.*not an image that OpenCV can decode.*expected JPEG"):
        open_source(tmp_path / name)
