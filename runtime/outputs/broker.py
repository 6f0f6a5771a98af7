"""The address of an MQTT broker: read from a URL, and shown without its password."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

EXPECTED = "expected mqtt://[user:password@]host[:port]/topic, or mqtts:// for TLS"
PORTS = {"mqtt": 1883, "mqtts": 8883}
"""Scheme of the URL -> the usual port."""


@dataclass(frozen=True)
class Broker:
    """An MQTT broker and the topic to publish to. Its text shows no credentials."""

    host: str
    port: int
    topic: str
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    """Whether the connection is encrypted, and the broker's certificate checked."""

    @property
    def availability_topic(self) -> str:
        """Where the broker keeps `online` while the loop is connected, and `offline` otherwise."""
        return f"{self.topic}/availability"

    @property
    def summary_topic(self) -> str:
        """Where the broker keeps the number of faces and the main expression, with discovery."""
        return f"{self.topic}/summary"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt{'s' if self.tls else ''}://{host}:{self.port}/{self.topic}"


@dataclass(frozen=True)
class Publishing:
    """How the records are published."""

    rate: float = 0.0
    """The most records a second. 0: no limit."""
    on_change: bool = False
    """Only when a face comes or goes or has another expression."""
    ca: Path | None = None
    """A file with the certificates of the authorities that are trusted, in PEM. None: those of the system."""
    discovery: str | None = None
    """Home Assistant's prefix for discovery. None: it is not told."""


def parse_prefix(text: str) -> str:
    """Home Assistant's prefix for discovery. Raises ValueError."""
    if not text.strip("/") or set(text) & set("+#\0"):
        raise ValueError(f"expected a prefix of topics such as homeassistant, found {text!r}")
    return text.strip("/")


def parse_broker(url: str) -> Broker:
    """mqtt[s]://[user:password@]host[:port]/topic -> the broker. The text of its ValueError does not repeat the URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        raise ValueError(f"{EXPECTED}, found no valid port or host") from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError(f"{EXPECTED}, found another scheme or no host")
    topic = unquote(parts.path[1:])
    if not topic or set(url) & set("#?") or set(topic) & set("+#\0"):
        raise ValueError(f"{EXPECTED}; a topic has at least one letter, and none of + # ?")
    user, password = (None if text is None else unquote(text) for text in (parts.username, parts.password))
    return Broker(parts.hostname, port, topic, user, password, tls=parts.scheme == "mqtts")
