"""Errors that the user can act on: each message states what was found, what was expected and what to do.

IernError
├── ArtifactError     a model file that this runtime cannot serve
├── ParityError       an exported file that differs from its network
├── EngineError       a TensorRT engine that cannot be built, or cannot run here
├── CheckpointError   a training checkpoint that cannot be read
├── DataError         training or evaluation data
├── ImageError        an image that cannot be decoded
├── SourceError       a camera, stream or file that cannot be opened or is lost
├── SessionError      an inference backend that cannot run as requested
│   └── ServerLostError   a model server that does not answer, and may come back
├── PriorError        rates of the expressions that a model cannot be set to
├── ArgumentError     boxes, faces or a detector that the library cannot use
├── OutputError       a window, recording or picture that cannot be shown or written
└── TrainingError     a training run that cannot start or continue
"""

from __future__ import annotations

import sys


class IernError(Exception):
    """Base of every error this package raises on purpose."""


class ArtifactError(IernError):
    """The model file is missing, damaged, of another kind, or of another format version."""


class ParityError(IernError):
    """The exported file does not compute what its network computes."""


class EngineError(IernError):
    """The TensorRT engine cannot be built, or does not fit this machine."""


class CheckpointError(IernError):
    """The checkpoint is missing, damaged, of another kind, or of another format version."""


class DataError(IernError):
    """The data set is missing, malformed, or does not fit the model."""


class ImageError(IernError):
    """The image cannot be decoded or is not an image."""


class SourceError(IernError):
    """The video source cannot be opened, or delivers no more frames."""


class SessionError(IernError):
    """The inference backend cannot run as requested."""


class ServerLostError(SessionError):
    """The server that runs the model does not answer now. A later call may succeed."""


class PriorError(IernError):
    """The rates of the expressions do not fit the model, or its own are unknown."""


class ArgumentError(IernError, ValueError):
    """Boxes, faces or a detector that were passed to the library do not have the expected form."""


class TrainingError(IernError):
    """The training run cannot start, resume or continue."""


class OutputError(IernError):
    """A window cannot be shown, or a recording or picture cannot be written."""


def report(error: IernError | OSError) -> int:
    """Print a command's error in one line on stderr, and return its exit status."""
    print("error: " + message_of(error), file=sys.stderr)
    return 1


def message_of(error: Exception) -> str:
    """The error's message on one line. For an OSError it is the file and the reason."""
    text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
    return " ".join(text.split())


def one_line(error: BaseException, longest: int = 200) -> str:
    """The message of another library's error on one line, at most `longest` characters, to quote in ours."""
    text = " ".join(str(error).split())
    return text if len(text) < longest else text[:longest] + "..."
