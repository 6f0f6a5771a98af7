"""The service for tests: the real one on a free port, and one whose recognition waits until a test lets it run."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import parser

from doubles.servers.page_client import Reply, fetch, running
from iern.runtime.service.limits import Limits
from iern.runtime.service.recognition import Recognition
from iern.runtime.service.server import RUNNER_OPTIONS, application


class HeldRecognition(Recognition):
    """The real recognition, which waits before each batch while it is held."""

    def __init__(self, real: Recognition) -> None:
        super().__init__(real._detector, real.session)
        self.may_run = threading.Event()
        self.batches: list[int] = []

    def __call__(self, requests: Sequence[Any]) -> list[Any]:
        self.batches.append(len(requests))
        assert self.may_run.wait(60)
        return super().__call__(requests)


@contextlib.contextmanager
def service(recognition: Recognition, token: str = "", **limits: Any) -> Iterator[str]:
    """The service's address."""
    with running(application(recognition, Limits(**limits), token), **RUNNER_OPTIONS) as url:
        yield url


def ask(url: str, picture: bytes, **options: Any) -> Reply:
    """Send one picture."""
    return fetch(f"{url}v1/faces", "POST", data=picture, **options)


def record(reply: Reply) -> dict[str, Any]:
    """The JSON of a good answer."""
    assert reply.status == 200, reply.text
    return json.loads(reply.text)


def metric(url: str, name: str, label: str = "") -> float:
    """One value of /metrics, read by Prometheus' own parser. 0 if there is none."""
    families = parser.text_string_to_metric_families(fetch(f"{url}metrics").text)
    values = {(s.name, "".join(s.labels.values())): s.value for family in families for s in family.samples}
    return values.get((name, label), 0.0)
