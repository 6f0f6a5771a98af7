"""Decides for every request whether it may be answered.

Without a token the server answers only this machine, and only a request that names it by one of its own names. So a
foreign name that points here (DNS rebinding) is refused. With a token every request but /healthz must carry it: as a
bearer header, as the password of a user of any name, or as the cookie that `?token=` sets. In both cases another site's
page can neither read nor change anything: there are no CORS headers, and a request that the browser marks as another
site's is refused.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from iern.runtime.serve.address import is_loopback

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.typedefs import Middleware
else:
    web = importlib.import_module("aiohttp.web")

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}
OPEN_PATH = "/healthz"
"""For probes, which have no token. The response shows only whether frames come."""

PICTURE_PATHS = ("/stream.mjpg", "/picture.jpg")
"""For programs that know only user and password. Browsers are not asked for these: they would show a dialog."""

Handler = Callable[["web.Request"], Awaitable["web.StreamResponse"]]


def access_middleware(token: str) -> Middleware:
    """The middleware that refuses requests. An empty token means that there is no token."""
    secret = hashlib.sha256(f"iern page {token}".encode()).hexdigest()  # valid in a cookie, unlike some tokens
    cookie = f"iern-{secret[:8]}"  # browsers ignore ports: several loops on one machine share their cookies

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not token and not is_loopback(_host_name(request.host)):
            raise web.HTTPForbidden(text=f"{request.host}: not a name of this machine; use --token behind a proxy\n")
        if _is_cross_site(request):
            raise web.HTTPForbidden(text="requests from other sites are refused\n")
        if token and request.path != OPEN_PATH:
            if request.path == "/" and _equal(request.query.get("token", ""), token):
                return _redirect_with_cookie(cookie, secret)
            if not (_equal(_given_token(request), token) or _equal(request.cookies.get(cookie, ""), secret)):
                raise web.HTTPUnauthorized(
                    text="the token is missing or wrong; open the address that was printed, with its ?token=, or send "
                    "the header Authorization: Bearer with it\n",
                    headers={"WWW-Authenticate": 'Basic realm="iern"' if request.path in PICTURE_PATHS else "Bearer"},
                )
        return await handler(request)

    return check


async def add_security_headers(_: web.Request, response: web.StreamResponse) -> None:
    """A handler for `on_response_prepare`: every response gets the headers, also a refusal."""
    response.headers.update(SECURITY_HEADERS)


def _is_cross_site(request: web.Request) -> bool:
    """Whether a browser marks the request as another site's. A link from there to the page itself is allowed."""
    if request.method in ("GET", "HEAD") and request.path == "/":
        return False
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("Origin")  # over plain HTTP to another machine a browser sends only this
    return origin is not None and urlsplit(origin).netloc.lower() != request.host.lower()


def _redirect_with_cookie(name: str, secret: str) -> web.Response:
    """A redirection to the page without the token in its address.

    The cookie has no path, so that it belongs to the folder that the browser sees. Behind a proxy the server does not
    know that folder.
    """
    response = web.Response(status=303, headers={"Location": "./"})
    response.headers["Set-Cookie"] = f"{name}={secret}; HttpOnly; SameSite=Lax"
    return response


def _given_token(request: web.Request) -> str:
    """The token of the header: after `Bearer`, or the password after `Basic`. Empty if there is none."""
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except ValueError:  # neither Base64 nor UTF-8
        return ""


def _equal(found: str, token: str) -> bool:
    """Compare in a time that does not reveal how many characters were right."""
    return hmac.compare_digest(found.encode(), token.encode())


def _host_name(host: str) -> str:
    """A Host header such as `localhost:8080` or `[::1]:8080` -> the name or address alone."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
