"""Who may ask the SuperLink what (F-25). Imports nothing of Flower.

Sites, participants' networks and everybody else reach one port that also serves
Flower's Control and Runtime APIs; who may use those can run code on the
coordinator. The gate stands before all of them:

| path | let through |
|---|---|
| ``/v1/fleet/`` | anyone, held until ``OPEN``; Flower checks the site's signature (``--enable-supernode-auth``) |
| ``/v1/runtime/`` | this machine only; Flower checks the shared secret or the token of the task |
| ``/v1/control/`` | who knows the coordinator's secret |
| anything else | nobody |

A site that came a moment too early would be told that nobody knows its key, and
give up. So requests of sites are held until the coordinator says ``OPEN``.
"""

import asyncio
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

__all__ = ["OPEN", "SECRET_HEADER", "Gate"]

OPEN = "/v1/control/modify-open"
"""Where the coordinator says that its sites are registered."""

SECRET_HEADER = "x-modify-secret"  # noqa: S105 - the name of the header
"""Carries the coordinator's secret."""

_FLEET = "/v1/fleet/"

_Scope: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App: TypeAlias = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


class Gate:
    """ASGI middleware; see the table of the module."""

    def __init__(self, app: _App, secret: str) -> None:
        """Stand before ``app``.

        Args:
            app: What is protected.
            secret: Opens the Control API.
        """
        self._app, self._secret = app, secret.encode()
        self._open = asyncio.Event()

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Pass a request on, or answer 403."""
        if scope["type"] == "http" and not self._allows(scope):
            await _answer(send, 403, b"refused\n")
        elif scope["type"] == "http" and scope["path"] == OPEN:
            self._open.set()
            await _answer(send, 200, b"open\n")
        elif scope["type"] in {"http", "lifespan"}:
            if str(scope.get("path", "")).startswith(_FLEET):
                await self._open.wait()
            await self._app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _allows(self, scope: _Scope) -> bool:
        path = str(scope["path"])
        if path.startswith(_FLEET):
            return True
        if path.startswith("/v1/runtime/"):
            return _is_this_machine(scope)
        if path.startswith("/v1/control/"):
            shown = [value for name, value in scope["headers"] if name == SECRET_HEADER.encode()]
            return len(shown) == 1 and hmac.compare_digest(shown[0], self._secret)
        return False


async def _answer(send: _Send, status: int, text: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": text})


def _is_this_machine(scope: _Scope) -> bool:
    client, server = scope.get("client"), scope.get("server")
    if not client:
        return False
    try:
        return ipaddress.ip_address(client[0]).is_loopback or bool(server and client[0] == server[0])
    except ValueError:
        return False
