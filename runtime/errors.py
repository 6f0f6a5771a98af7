"""Errors a person can act on: each message says what was found, what was expected and what to do.

IernError
├── ArtifactError     a model file that this runtime cannot serve
├── ParityError       an exported file that answers otherwise than its network
├── EngineError       a TensorRT engine that cannot be built, or not run here
├── CheckpointError   a training checkpoint that cannot be read
├── DataError         training or evaluation data
├── ImageError        an image that cannot be decoded
├── SourceError       a camera, stream or file that cannot be opened, or was lost
├── SessionError      an inference backend that cannot run as asked
├── OutputError       a window, recording or picture that cannot be shown or written
└── TrainingError     a training run that cannot start or go on
"""

from __future__ import annotations

import sys


class IernError(Exception):
    """Base of every error this package raises on purpose."""


class ArtifactError(IernError):
    """The model file is missing, damaged, foreign, or of another format version."""


class ParityError(IernError):
    """The exported file does not answer as the network it was made from."""


class EngineError(IernError):
    """The TensorRT engine cannot be built, or does not fit this machine."""


class CheckpointError(IernError):
    """The checkpoint is missing, damaged, foreign, or of another format version."""


class DataError(IernError):
    """The data set is missing, malformed, or does not fit the model."""


class ImageError(IernError):
    """The image cannot be decoded or is not an image."""


class SourceError(IernError):
    """The video source cannot be opened, or stopped delivering."""


class SessionError(IernError):
    """The inference backend cannot run as asked."""


class TrainingError(IernError):
    """The training run cannot start, resume or go on."""


class OutputError(IernError):
    """A window cannot be shown, or a recording or picture cannot be written."""


def report(error: IernError | OSError) -> int:
    """Say a command's failure in one line on stderr, and return its exit status."""
    print("error: " + in_short(error), file=sys.stderr)
    return 1


def in_short(error: Exception) -> str:
    """What to say of it, on one line: of an error of the system, the file and what is wrong with it."""
    text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
    return " ".join(text.split())


def one_line(error: BaseException, longest: int = 200) -> str:
    """The text of another library's error on one line, cut where it is long: for a message of ours."""
    text = " ".join(str(error).split())
    return text if len(text) < longest else text[:longest] + "..."
