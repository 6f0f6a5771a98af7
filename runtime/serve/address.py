"""The address of the page: `[host:]port` as typed, and who can reach it. Imports no OpenCV, for the command line."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
EXPECTED = "expected a port, or host:port with an IPv6 host in brackets: 8080, 0.0.0.0:8080 or [::1]:8080"


@dataclass(frozen=True)
class Address:
    """Host and port to listen on; port 0 lets the system choose one."""

    host: str
    port: int

    @property
    def local_only(self) -> bool:
        """Whether only this machine can reach the address."""
        return is_loopback(self.host)

    @property
    def url(self) -> str:
        """The URL to type. If the host means every interface, the URL has the machine's name."""
        everywhere = self.host in ("0.0.0.0", "::")
        host = socket.gethostname() if everywhere else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"


def parse_address(text: str) -> Address:
    """`8080`, `0.0.0.0:8080`, `camera.lan:8080` or `[::1]:8080` -> the address. A bare port is for this machine only.

    Raises ValueError with the expected form.
    """
    match = re.fullmatch(r"(?:(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[\w.-]+)):)?(?P<port>[0-9]{1,5})", text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError(f"{text!r}: {EXPECTED}")
    if match["six"] and not _is_ipv6(match["six"]):
        raise ValueError(f"{text!r}: {match['six']} is not an IPv6 address; {EXPECTED}")
    return Address(match["six"] or match["host"] or LOOPBACK, int(match["port"]))


def is_loopback(host: str) -> bool:
    """Whether the name or address of a host can only mean this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False
