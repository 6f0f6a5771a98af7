"""The address of an MQTT broker: read from a URL, and shown without its password."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

EXPECTED = "expected mqtt://[user:password@]host[:port]/topic"


@dataclass(frozen=True)
class Broker:
    """An MQTT broker and the topic to publish to. Its text shows no credentials."""

    host: str
    port: int
    topic: str
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt://{host}:{self.port}/{self.topic}"


def parse_broker(url: str) -> Broker:
    """mqtt://[user:password@]host[:port]/topic -> the broker. The text of its ValueError does not repeat the URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or 1883
    except ValueError:
        raise ValueError(f"{EXPECTED}, found no valid port or host") from None
    if parts.scheme != "mqtt" or not parts.hostname:
        raise ValueError(f"{EXPECTED}, found no mqtt:// or no host")
    topic = unquote(parts.path[1:])
    if not topic or set(url) & set("#?") or set(topic) & set("+#\0"):
        raise ValueError(f"{EXPECTED}; a topic has at least one letter, and none of + # ?")
    user, password = (None if text is None else unquote(text) for text in (parts.username, parts.password))
    return Broker(parts.hostname, port, topic, user, password)
