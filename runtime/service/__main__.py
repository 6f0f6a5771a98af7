"""Command: answer pictures that are sent over HTTP with the faces in them and their expressions."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from iern.runtime.system.command import command, leave

from iern.runtime.backends.model_options import add_model_options
from iern.runtime.serve.address import parse_address
from iern.runtime.service.limits import Limits
from iern.runtime.system.arguments import Parser, number, positive, token, value_of
from iern.runtime.system.opencv import require_opencv

EXAMPLES = """\
examples:
  python -m iern.runtime.service               http://127.0.0.1:8080/, for this machine only
  curl --data-binary @photo.jpg http://127.0.0.1:8080/v1/faces
                                               the faces in a picture, as one line of JSON
  python -m iern.runtime.service --port 0.0.0.0:8080
                                               for the network; the address is printed with its token
  curl -H "Authorization: Bearer $IERN_TOKEN" -F image=@photo.jpg http://machine:8080/v1/faces

The page at / shows the addresses and tries them with this computer's camera. /openapi.json describes them,
/healthz is for probes and /metrics for Prometheus. A picture is not kept. Pictures that come together are
run together. If too many wait, the answer is 503 with the seconds to wait in Retry-After.

Exit status: 0 after Ctrl-C or SIGTERM, when the requests that had come are answered; 1 after one line on
stderr, if the model cannot be opened or the address is in use; 2 for wrong usage.
"""


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command. A second Ctrl-C ends it at once."""
    options = _parse(argv)
    require_opencv()
    # Late: these need the libraries that were just checked.
    from iern.runtime.backends.onnx import open_session
    from iern.runtime.faces.detector import FaceDetector
    from iern.runtime.serve.server import require_libraries
    from iern.runtime.system.opencv import limit_opencv, silence_opencv

    require_libraries("the service")
    from iern.runtime.service.recognition import Recognition
    from iern.runtime.service.server import serve

    silence_opencv()
    limit_opencv()
    limits = Limits(options.megabytes, options.megapixels, options.waiting, options.rate, options.cameras)
    with open_session(
        options.model, options.provider, options.strict, prior=options.prior, precision=options.precision
    ) as session:
        if session.note:
            print(f"note: runs on {session.provider}: {session.note}")
        bits = " in 8 bits" if session.artifact.in_8_bits else ""
        print(f"{options.model.name}{bits} on {session.provider}", flush=True)
        recognition = Recognition(FaceDetector(longest_side=options.detect_size), session)
        recognition.warm_up()
        serve(options.port, recognition, limits, options.token)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m iern.runtime.service",
        description="Answer pictures that are sent over HTTP with the faces in them and their expressions.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _address(parser)
    _limits(parser)
    _model(parser)
    return parser.parse_args(argv)


def _address(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("address").add_argument
    add(
        "--port",
        type=value_of(parse_address),
        default=parse_address("8080"),
        metavar="[HOST:]PORT",
        help="where to listen: for this machine only, or also for others if HOST can be reached by them, and then only "
        "with a token (default: 8080)",
    )
    add(
        "--token",
        type=token,
        default=os.environ.get("IERN_TOKEN") or None,
        help="token that every request must carry (default: $IERN_TOKEN; if a token is needed and none is given, a "
        "random one is printed)",
    )


def _limits(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("limits").add_argument
    usual = Limits()
    add(
        "--megabytes",
        type=value_of(number),
        default=usual.megabytes,
        metavar="N",
        help="largest encoded picture, in millions of bytes (default: %(default)g)",
    )
    add(
        "--megapixels",
        type=value_of(number),
        default=usual.megapixels,
        metavar="N",
        help="largest picture, in millions of pixels, checked before it is decoded (default: %(default)g)",
    )
    add(
        "--waiting",
        type=positive,
        default=usual.waiting,
        metavar="N",
        help="requests that may wait; more are answered with 503 (default: %(default)d)",
    )
    add(
        "--rate",
        type=value_of(number),
        default=usual.rate,
        metavar="N",
        help="requests a second from one address; more are answered with 429 (default: 0, any number)",
    )
    add(
        "--cameras",
        type=positive,
        default=usual.cameras,
        metavar="N",
        help="cameras, that is WebSockets, that may be open (default: %(default)d)",
    )


def _model(parser: argparse.ArgumentParser) -> None:
    """The options of webcam.py for the model, and how faces are searched for."""
    add = add_model_options(parser)
    add(
        "--detect-size",
        type=positive,
        metavar="PIXELS",
        help="search faces in a copy whose longer side has at most PIXELS; 640 is quick (default: what a photograph "
        "needs to show its small faces, which may take a second)",
    )


if __name__ == "__main__":
    leave(main())
