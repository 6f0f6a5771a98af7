"""Home Assistant's discovery over MQTT: it finds two sensors, the main expression and the number of faces, by itself.

The format: https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from iern.runtime.outputs.broker import Broker
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.outputs.selection import label_of

NOBODY = "nobody"
"""The main expression of a picture without a face."""

SENSORS = {
    "expression": {"name": "Expression", "icon": "mdi:emoticon-outline"},
    "faces": {
        "name": "Faces",
        "icon": "mdi:account-multiple",
        "unit_of_measurement": "faces",
        "state_class": "measurement",
    },
}
"""Key of the summary -> what Home Assistant shall know about its sensor."""


def discovery(broker: Broker, prefix: str) -> Iterator[tuple[str, str]]:
    """The topic and the message of each sensor, which the broker keeps. `prefix` is Home Assistant's, for discovery."""
    device = "iern_" + re.sub(r"[^A-Za-z0-9]+", "_", broker.topic).strip("_")
    for key, described in SENSORS.items():
        message = {
            **described,
            "unique_id": f"{device}_{key}",
            "state_topic": broker.summary_topic,
            "value_template": f"{{{{ value_json.{key} }}}}",
            "availability_topic": broker.availability_topic,
            "device": {"identifiers": [device], "name": f"IERN {broker.topic}", "manufacturer": "IERN"},
            "origin": {"name": "IERN"},
        }
        yield f"{prefix}/sensor/{device}/{key}/config", json.dumps(message, ensure_ascii=False)


def summary(result: FrameResult) -> str:
    """The number of faces, and the expression of the one with the largest box, as JSON."""
    largest = max(result.faces, key=lambda face: face.detection.width * face.detection.height, default=None)
    return json.dumps({"faces": len(result.faces), "expression": label_of(largest) if largest else NOBODY})
