"""Results of an experiment of many runs, which can be stopped and continued."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from iern.runtime.errors import IernError
from iern.train.network.checkpoint import versions


def continued(out: Path, configuration: dict[str, Any]) -> dict[str, Any]:
    """Return the results so far, or empty results. Raises IernError if they are of another configuration."""
    configuration = {**configuration, **versions("torch")}
    if not out.exists():
        return {"configuration": configuration, "runs": {}}
    try:
        content = json.loads(out.read_text(encoding="utf-8"))
        found = content["configuration"] if isinstance(content["runs"], dict) else None
    except (ValueError, KeyError, TypeError) as error:
        raise IernError(f"{out} holds no results of this experiment; move it away, or pass another --out") from error
    if found != configuration:
        raise IernError(f"{out} holds runs with the configuration {found}, this one has {configuration}; move it away")
    return content
