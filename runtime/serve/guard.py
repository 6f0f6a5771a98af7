"""Who may ask: decided for every request before anything answers it.

Without a token only this machine is served, and a request must name it by one of its own names: a foreign name that
points here (DNS rebinding) is refused. With a token every request but /healthz must carry it, as a bearer's header, or
as the cookie that `?token=` turns into. In both cases another site's page can neither read nor change anything: there
are no CORS headers, and what a browser says to come from elsewhere is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from iern.runtime.serve.address import is_loopback

if TYPE_CHECKING:
    from aiohttp import web
else:
    web = importlib.import_module("aiohttp.web")

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}
OPEN = "/healthz"
"""For probes, which have no token; it tells no more than that frames come."""

Handler = Callable[["web.Request"], Awaitable["web.StreamResponse"]]


def guard(token: str) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    """The middleware; an empty token is none."""
    secret = hashlib.sha256(f"iern page {token}".encode()).hexdigest()  # fit for a cookie, whatever the token holds
    cookie = f"iern-{secret[:8]}"  # several loops on one machine share their cookies, since ports do not part them

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not token and not is_loopback(_name(request.host)):
            raise web.HTTPForbidden(text=f"{request.host}: not a name of this machine; behind a proxy use --token\n")
        if _from_elsewhere(request):
            raise web.HTTPForbidden(text="requests of other sites are refused\n")
        if token and request.path != OPEN:
            if request.path == "/" and _same(request.query.get("token", ""), token):
                return _with_cookie(cookie, secret)
            if not (_same(_bearer(request), token) or _same(request.cookies.get(cookie, ""), secret)):
                raise web.HTTPUnauthorized(
                    text="the token is missing or wrong: open the address that the loop printed, with its ?token=\n",
                    headers={"WWW-Authenticate": "Bearer"},
                )
        return await handler(request)

    return check


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """A signal handler for `on_response_prepare`: on every answer, refusals included."""
    response.headers.update(HEADERS)


def _from_elsewhere(request: web.Request) -> bool:
    """Whether a browser says that another site's page asks; following a link to the page itself is no harm."""
    if request.method in ("GET", "HEAD") and request.path == "/":
        return False
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("Origin")  # browsers say nothing more over plain HTTP to another machine
    return origin is not None and urlsplit(origin).netloc.lower() != request.host.lower()


def _with_cookie(name: str, secret: str) -> web.Response:
    """To the page without the token in its address.

    No path: the cookie then belongs to the folder that the browser sees, which behind a proxy is not ours to know.
    """
    response = web.Response(status=303, headers={"Location": "./"})
    response.headers["Set-Cookie"] = f"{name}={secret}; HttpOnly; SameSite=Lax"
    return response


def _bearer(request: web.Request) -> str:
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else ""


def _same(found: str, token: str) -> bool:
    """In a time that does not tell how much of it was right."""
    return hmac.compare_digest(found.encode(), token.encode())


def _name(host: str) -> str:
    """`localhost:8080` or `[::1]:8080`, as a Host header says -> the name or address alone."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
