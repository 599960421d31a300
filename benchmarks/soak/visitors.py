"""Visitors who remember what they were told: a counter that goes back, or forgets an addition, is a lost update."""

import random

import anyio
import httpx
from msgspec import Struct
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

__all__ = ["Tally", "Visitor"]

ACTIONS = ["add"] * 8 + ["show"] * 8 + ["login", "regenerate", "revoke", "logout"]


class Tally(Struct):
    """What all visitors have seen."""

    answered: int = 0
    failed: int = 0  # 503s and broken connections: allowed while there is a fault
    sockets: int = 0
    ended: int = 0  # sockets that the server has closed because the session was ended
    streams: int = 0
    lost: list[str] = []


class Visitor:
    """One browser. Of an addition whose answer was lost, it does not know whether it was made."""

    def __init__(self, ports: list[int], tally: Tally) -> None:
        self._ports = ports
        self._tally = tally
        self._cookie: str | None = None
        self._least = self._most = 0
        self._doubt = False  # the session may have been ended, or may have a new ID that was lost
        self._new = True

    async def live(self) -> None:
        """Visit until cancelled."""
        async with httpx.AsyncClient(timeout=30) as client:
            while True:
                port = random.choice(self._ports)
                if random.random() < 0.05 and self._cookie is not None:
                    await self._open_socket(client, port)
                elif random.random() < 0.03 and self._cookie is not None:
                    await self._read_stream(client)
                else:
                    await self._visit(client, port, random.choice(ACTIONS))
                await anyio.sleep(random.expovariate(4))

    def _headers(self) -> dict[str, str]:
        return {} if self._cookie is None else {"Cookie": f"session_id={self._cookie}"}

    async def _visit(self, client: httpx.AsyncClient, port: int, action: str) -> None:
        adds = action == "add"
        try:
            response = await client.post(f"http://127.0.0.1:{port}/{action}/{id(self)}", headers=self._headers())
        except httpx.HTTPError:
            self._failed(action)
            return
        if response.status_code != 200:
            self._failed(action)
            return
        self._tally.answered += 1
        if (cookie := response.cookies.get("session_id")) is not None:
            self._cookie = cookie
        elif "session_id=" in response.headers.get("set-cookie", ""):
            self._cookie = None
        client.cookies.clear()
        if self._cookie is None or action == "logout":
            self._forget()
            return
        n: int = response.json()["n"]
        least, most = self._least + adds, self._most + adds
        if not (self._doubt or self._new or least <= n <= most):
            self._tally.lost.append(f"{action} on {port} showed {n}, expected {least} to {most}")
        self._least = self._most = n
        self._doubt = self._new = False

    def _failed(self, action: str) -> None:
        self._tally.failed += 1
        if action == "add":
            self._most += 1
        if action in ("login", "regenerate", "logout"):
            self._doubt = True

    def _forget(self) -> None:
        self._cookie = None
        self._least = self._most = 0
        self._doubt, self._new = False, True

    async def _open_socket(self, client: httpx.AsyncClient, port: int) -> None:
        self._tally.sockets += 1
        leaves = random.random() < 0.3
        try:
            async with connect(f"ws://127.0.0.1:{port}/socket", additional_headers=self._headers()) as socket:
                await socket.send("hello")
                await socket.recv()
                if leaves:
                    answered = self._tally.answered
                    await self._visit(client, random.choice(self._ports), "logout")
                    leaves = self._tally.answered > answered
                with anyio.move_on_after(20 if leaves else random.uniform(0, 10)):
                    await socket.wait_closed()
                self._tally.ended += socket.close_code == 1008
                if leaves and socket.close_code != 1008:
                    self._tally.lost.append(f"a socket on {port} outlived its session: {socket.close_code}")
        except (OSError, InvalidHandshake, ConnectionClosed, TimeoutError):
            self._tally.failed += 1

    async def _read_stream(self, client: httpx.AsyncClient) -> None:
        self._tally.streams += 1
        try:
            async with client.stream(
                "GET", f"http://127.0.0.1:{self._ports[0]}/stream", headers=self._headers()
            ) as got:
                with anyio.move_on_after(random.uniform(0, 5)):
                    async for _ in got.aiter_bytes():
                        pass
        except httpx.HTTPError:
            self._tally.failed += 1
