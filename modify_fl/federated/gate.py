"""Who may ask the SuperLink what (F-25). Imports nothing of Flower.

Sites, participants' networks and everybody else reach one port that also serves
Flower's Control and Runtime APIs; who may use those can run code on the
coordinator. The gate stands before all of them:

| path | let through |
|---|---|
| ``/v1/fleet/`` | anyone; Flower checks the site's signature (``--enable-supernode-auth``) |
| ``/v1/runtime/`` | this machine only; Flower checks the shared secret or the token of the task |
| ``/v1/control/`` | who knows the coordinator's secret |
| anything else | nobody |
"""

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

__all__ = ["SECRET_HEADER", "Gate"]

SECRET_HEADER = "x-modify-secret"  # noqa: S105 - the name of the header
"""Carries the coordinator's secret."""

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

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Pass a request on, or answer 403."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and self._allows(scope)):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"refused\n"})
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _allows(self, scope: _Scope) -> bool:
        path = str(scope["path"])
        if path.startswith("/v1/fleet/"):
            return True
        if path.startswith("/v1/runtime/"):
            return _is_this_machine(scope)
        if path.startswith("/v1/control/"):
            shown = [value for name, value in scope["headers"] if name == SECRET_HEADER.encode()]
            return len(shown) == 1 and hmac.compare_digest(shown[0], self._secret)
        return False


def _is_this_machine(scope: _Scope) -> bool:
    client, server = scope.get("client"), scope.get("server")
    if not client:
        return False
    try:
        return ipaddress.ip_address(client[0]).is_loopback or bool(server and client[0] == server[0])
    except ValueError:
        return False
