"""The description says what the service does: its addresses, its answers and its refusals."""

from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np
import pytest

from doubles.servers.page_client import fetch
from doubles.servers.service import ask, record, service
from iern.runtime.service.limits import Limits
from iern.runtime.service.recognition import Recognition
from iern.runtime.service.server import application
from repository import PHOTOS

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "number": (int, float), "integer": int}


@pytest.fixture(scope="module")
def served(recognition):
    with service(recognition) as url:
        yield url, json.loads(fetch(f"{url}openapi.json").text)


def check(value: Any, schema: dict[str, Any], root: dict[str, Any], where: str = "answer") -> None:
    """Assert that a value keeps a schema, for the words that ours uses. Keys that it does not name are an error."""
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return check(value, target, root, where)
    if "const" in schema:
        assert value == schema["const"], where
    if "enum" in schema:
        assert value in schema["enum"], where
    names = schema.get("type", [])
    kinds = [type(None) if name == "null" else TYPES[name] for name in ([names] if isinstance(names, str) else names)]
    assert not kinds or any(isinstance(value, kind) for kind in kinds), f"{where}: {value!r} is no {names}"
    if isinstance(value, (int, float)):
        assert schema.get("minimum", value) <= value <= schema.get("maximum", value), where
    if isinstance(value, list):
        assert schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)), where
        for item in value:
            check(item, schema["items"], root, f"{where}[]")
    if isinstance(value, dict):
        assert set(schema["required"]) <= set(value) <= set(schema["properties"]), where
        for key, item in value.items():
            check(item, schema["properties"][key], root, f"{where}.{key}")
    return None


def schema_of(description: dict[str, Any], status: str) -> dict[str, Any]:
    return description["paths"]["/v1/faces"]["post"]["responses"][status]["content"]["application/json"]["schema"]


def test_answers_keep_the_schema_also_with_a_face_at_the_edge(served):
    url, description = served
    photo = cv2.imread(str(PHOTOS / "astronaut.jpg"))
    edge = cv2.imencode(".png", photo[90:])[1].tobytes()
    faces = []
    for picture in ((PHOTOS / "astronaut.jpg").read_bytes(), edge, cv2.imencode(".png", photo[:9, :9])[1].tobytes()):
        answer = record(ask(url, picture))
        check(answer, schema_of(description, "200"), description)
        faces += answer["faces"]
    assert any("whole_box" in face for face in faces)


def test_an_answer_that_breaks_the_schema_is_noticed(served):
    url, description = served
    answer = record(ask(url, (PHOTOS / "astronaut.jpg").read_bytes()))
    for change in ({"schema": 0}, {"faces": [{}]}, {"more": 1}, {"time": "now"}):
        with pytest.raises(AssertionError):
            check(answer | change, schema_of(description, "200"), description)


def test_refusals_keep_the_schema_of_their_status(served):
    url, description = served
    large = cv2.imencode(".png", np.zeros((5001, 5001), np.uint8))[1].tobytes()
    bad = {"415": b"no", "400": b"\xff\xd8\xff", "413": large}
    for status, picture in bad.items():
        reply = ask(url, picture)
        assert str(reply.status) == status
        check(json.loads(reply.text), schema_of(description, status), description)


def test_every_address_for_programs_is_described_and_no_other(recognition: Recognition, served):
    routes = application(recognition, Limits()).router.routes()
    there = {(route.resource.canonical, route.method) for route in routes if route.method != "HEAD"}
    described = {(path, method.upper()) for path, methods in served[1]["paths"].items() for method in methods}
    assert there - described == {("/", "GET"), ("/page.js", "GET"), ("/openapi.json", "GET")}
    assert described <= there


def test_every_reference_leads_somewhere_and_the_version_is_stated(served):
    text = json.dumps(served[1])
    names = set(served[1]["components"]["schemas"])
    assert {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]} == names
    assert served[1]["openapi"] == "3.1.0"
