"""One open connection to an ASGI application, by hand."""

from collections.abc import Callable
from typing import Any

import anyio
from tests.adapters.asgi import CONNECT, Message

__all__ = ["Line"]


class Line:
    """One open connection to a server whose client sends nothing but `incoming`.

    Messages of the types in `stuck` are not sent before `unstuck` is set; sending one that `refuses` accepts raises.
    """

    def __init__(self, scope: dict[str, Any], *incoming: Message) -> None:
        self.scope = scope
        self.incoming = [CONNECT, *incoming] if scope["type"] == "websocket" else []
        self.sent: list[Message] = []
        self.stuck: set[str] = set()
        self.unstuck = anyio.Event()
        self.refuses: Callable[[Message], bool] = lambda _: False
        self.opened = anyio.Event()
        self.over = anyio.Event()
        self.error: Exception | None = None

    async def receive(self) -> Message:
        if self.incoming:
            return self.incoming.pop(0)
        self.opened.set()
        await anyio.sleep_forever()
        raise AssertionError

    async def send(self, message: Message) -> None:
        if message["type"] in self.stuck:
            await self.unstuck.wait()
        if self.refuses(message):
            raise RuntimeError("the server cannot send this")
        self.sent.append(message)
        if message.get("more_body") or message["type"] == "websocket.send":
            self.opened.set()

    async def serve(self, app: Any) -> None:
        try:
            await app(self.scope, self.receive, self.send)
        except Exception as error:  # noqa: BLE001 - the server's
            self.error = error
        self.over.set()
