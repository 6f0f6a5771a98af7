"""What a server does to listen: the token that it makes, and the address on which it then is."""

from __future__ import annotations

import importlib
import secrets
from typing import TYPE_CHECKING

from iern.runtime.errors import OutputError
from iern.runtime.serve.address import Address

if TYPE_CHECKING:
    from aiohttp import web


def made_token(address: Address, token: str | None) -> str:
    """A random token if others can reach the address and none is given; otherwise empty."""
    return "" if token or address.local_only else secrets.token_urlsafe(16)


def url_with(address: Address, token: str) -> str:
    """The URL to print, with the token that was made for it, if there is one."""
    return f"{address.url}{f'?token={token}' if token else ''}"


async def listen(runner: web.AppRunner, address: Address, option: str) -> Address:
    """Listen with a runner that is set up -> the address, with the port that the system chose for port 0.

    Raises OutputError, which names the `option` of the address, if that is not possible.
    """
    site = importlib.import_module("aiohttp.web").TCPSite(runner, address.host, address.port)
    try:
        await site.start()
    except (OSError, UnicodeError) as error:  # UnicodeError: the host is not a valid name
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"cannot listen on port {address.port} of {address.host} ({reason}); give another address with {option}"
        ) from error
    return Address(address.host, runner.addresses[0][1])
