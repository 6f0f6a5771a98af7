"""The description of the service's addresses in OpenAPI 3.1, for programs that make a client from it."""

from __future__ import annotations

from typing import Any

from iern.runtime.artifact import Artifact
from iern.runtime.outputs.records import SCHEMA
from iern.runtime.service.limits import Limits
from iern.runtime.service.picture_size import READERS

Schema = dict[str, Any]

NUMBER: Schema = {"type": "number"}
INTEGER: Schema = {"type": "integer", "minimum": 0}
TEXT: Schema = {"type": "string"}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
BOX: Schema = {"type": "array", "items": NUMBER, "minItems": 4, "maxItems": 4, "description": "x, y, width, height"}
STAGES = ("detect", "preprocess", "infer", "total", "age")

ERRORS = {
    "400": "The picture cannot be decoded, or the form has not one part.",
    "401": "The token is missing or wrong.",
    "403": "The request is of another site, or names this machine by a foreign name.",
    "408": "The body did not come in time.",
    "413": "The picture has too many bytes or pixels.",
    "415": "The bytes are of no kind of picture that is taken.",
    "429": "One address sends too often. Retry-After has the seconds to wait.",
    "503": "Too many requests wait. Retry-After has the seconds to wait.",
}


def openapi(artifact: Artifact, limits: Limits) -> Schema:
    """The description for one model and the limits of one service, as plain types."""
    kinds = [f"image/{kind.lower()}" for kind in READERS]
    picture = {"type": "string", "format": "binary", "maxLength": limits.bytes}
    form = {"type": "object", "properties": {"image": picture}, "required": ["image"]}
    content = {kind: {"schema": picture} for kind in kinds} | {"multipart/form-data": {"schema": form}}
    errors = {status: {"description": text, "content": _json("Error")} for status, text in ERRORS.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "IERN",
            "version": "1",
            "description": "Finds the faces in a picture and recognises their expressions. Pictures are not kept.",
        },
        "paths": {
            "/v1/faces": {
                "post": {
                    "summary": f"The faces in a picture of at most {limits.megapixels:g} million pixels",
                    "operationId": "faces",
                    "requestBody": {"required": True, "content": content},
                    "responses": {"200": {"description": "The record.", "content": _json("Record")}, **errors},
                }
            },
            "/v1/camera": {
                "get": {
                    "summary": "A WebSocket: one encoded frame a binary message, one record a text message",
                    "operationId": "camera",
                    "responses": {"101": {"description": "The WebSocket is open."}, "503": errors["503"]},
                }
            },
            "/healthz": {
                "get": {
                    "summary": "Whether requests are answered; needs no token",
                    "operationId": "health",
                    "security": [],
                    "responses": {"200": {"description": "Yes."}, "503": {"description": "No."}},
                }
            },
            "/metrics": {
                "get": {
                    "summary": "Metrics for Prometheus",
                    "operationId": "metrics",
                    "responses": {"200": {"description": "Text.", "content": {"text/plain": {"schema": TEXT}}}},
                }
            },
        },
        "security": [{}, {"token": []}],
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Record": _record_schema(),
                "Face": _face_schema(artifact),
                "Error": _object({"error": TEXT}, ["error"]),
            },
        },
    }


def _json(schema: str) -> Schema:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _object(properties: Schema, required: list[str] | None = None) -> Schema:
    """An object in which all properties are required, unless `required` names some."""
    return {"type": "object", "properties": properties, "required": required or list(properties)}


def _record_schema() -> Schema:
    return _object(
        {
            "schema": {"const": SCHEMA},
            "start": {"type": "string", "format": "date-time"},
            "frame": INTEGER,
            "time": NUMBER,
            "name": TEXT,
            "segment": INTEGER,
            "faces": {"type": "array", "items": {"$ref": "#/components/schemas/Face"}},
            "latency_ms": _object(dict.fromkeys(STAGES, NUMBER)),
        }
    )


def _face_schema(artifact: Artifact) -> Schema:
    probabilities = _object(dict.fromkeys(artifact.expressions, SHARE))
    required = {
        "track": {"type": ["integer", "null"]},
        "box": BOX,
        "score": SHARE,
        "expression": {"enum": list(artifact.expressions)},
        "probability": SHARE,
        "uncertain": {"type": "boolean"},
        "probabilities": probabilities,
        "raw_probabilities": probabilities,
        **({"disagreement": SHARE} if artifact.has_strata else {}),
    }
    return _object({**required, "whole_box": BOX}, list(required))
