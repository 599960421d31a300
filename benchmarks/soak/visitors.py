"""Visitors who remember what the pages showed: a counter that goes back, or lacks an addition, means a lost update."""

import random
from time import monotonic

import anyio
import httpx
from msgspec import Struct
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

__all__ = ["Tally", "Visitor"]

ENDING = ["login", "regenerate", "logout"]  # what ends an ID
ACTIONS = ["add"] * 8 + ["show"] * 8 + ["revoke", *ENDING]
MAX_STALE = 1.0  # seconds: that of the near cache


class Tally(Struct):
    """What all visitors have seen."""

    answered: int = 0
    failed: int = 0  # 503s and broken connections: allowed while there is a fault
    sockets: int = 0
    ended: int = 0  # sockets that the server has closed because the session was ended
    streams: int = 0
    lost: list[str] = []


class Visitor:
    """One browser.

    If the answer to a request was lost, it does not know whether the request was carried out, or still will be: a
    server that stands still does its work later. What the request may do stays possible as long as the session lasts.
    A page may show what was true `MAX_STALE` ago, but nothing older than what its process has shown or written.
    """

    def __init__(self, ports: list[int], tally: Tally) -> None:
        self._ports = ports
        self._tally = tally
        self._cookie: str | None = None
        self._known: list[tuple[float, int]] = []  # since which time the count was at least how much
        self._known_to: dict[int, int] = {}  # what the process at this port knows of it
        self._most = 0  # the count if every addition was carried out
        self._doubt = False  # the session may have been ended, or may have a new ID that was lost

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

    async def _visit(self, client: httpx.AsyncClient, port: int, action: str) -> bool:
        """Return whether it was answered."""
        adds, began, former = action == "add", monotonic(), self._cookie
        response = await self._post(client, port, action)
        self._most += adds
        if response is None:
            self._doubt = self._doubt or action in ENDING
            return False
        if (cookie := response.cookies.get("session_id")) is not None:
            self._cookie = cookie
        elif action == "logout" or "session_id=" in response.headers.get("set-cookie", ""):
            self._cookie = None
        if self._cookie != former:
            await self._check_end(client, former)
        if self._cookie is None:
            self._forget()
        else:
            self._judge(port, began, action, response.json()["n"], is_new=former is None)
        return True

    async def _post(self, client: httpx.AsyncClient, port: int, action: str) -> httpx.Response | None:
        """Return the answer; None if there was none, or an error."""
        headers = {} if self._cookie is None else {"Cookie": f"session_id={self._cookie}"}
        try:
            response = await client.post(f"http://127.0.0.1:{port}/{action}/{id(self)}", headers=headers)
        except httpx.HTTPError:
            response = None
        client.cookies.clear()
        if response is None or response.status_code != 200:
            self._tally.failed += 1
            return None
        self._tally.answered += 1
        return response

    def _judge(self, port: int, began: float, action: str, n: int, *, is_new: bool) -> None:
        adds = action == "add"
        known = [self._known_to.get(port, 0), *(count for at, count in self._known if at <= began - MAX_STALE)]
        least, surely = max(known) + adds, max([n, *(count + adds for _, count in self._known)])
        if self._doubt and n < least:
            self._forget()
            return
        if is_new:
            self._most = n
        elif not least <= n <= self._most:
            self._tally.lost.append(f"{action} on {port} showed {n}, expected {least} to {self._most}")
        self._known = [*self._known[-99:], (monotonic(), surely)]
        self._known_to[port] = surely if adds else n  # a write is made to the newest record

    async def _check_end(self, client: httpx.AsyncClient, former: str | None) -> None:
        """Now and then, try the ID that was replaced or ended: no page may show its session any more."""
        if former is None or random.random() < 0.7:
            return
        await anyio.sleep(MAX_STALE)
        current, self._cookie = self._cookie, former
        port = random.choice(self._ports)
        response = await self._post(client, port, "show")
        self._cookie = current
        if response is not None and (n := response.json()["n"]) != 0:
            self._tally.lost.append(f"{port} showed {n} to an ID that was replaced or ended")

    def _forget(self) -> None:
        self._cookie = None
        self._known.clear()
        self._known_to.clear()
        self._most = 0
        self._doubt = False

    async def _open_socket(self, client: httpx.AsyncClient, port: int) -> None:
        self._tally.sockets += 1
        leaves = random.random() < 0.3
        cookie = {"Cookie": f"session_id={self._cookie}"}
        try:
            async with connect(f"ws://127.0.0.1:{port}/socket", additional_headers=cookie) as socket:
                await socket.send("hello")
                await socket.recv()
                if leaves:
                    leaves = await self._visit(client, random.choice(self._ports), "logout")
                with anyio.move_on_after(20 if leaves else random.uniform(0, 10)):
                    await socket.wait_closed()
                self._tally.ended += socket.close_code == 1008
                if leaves and socket.close_code != 1008:
                    self._tally.lost.append(f"a socket on {port} outlived its session: {socket.close_code}")
        except (OSError, InvalidHandshake, ConnectionClosed, TimeoutError):
            self._tally.failed += 1

    async def _read_stream(self, client: httpx.AsyncClient) -> None:
        self._tally.streams += 1
        cookie = {"Cookie": f"session_id={self._cookie}"}
        try:
            async with client.stream("GET", f"http://127.0.0.1:{self._ports[0]}/stream", headers=cookie) as got:
                with anyio.move_on_after(random.uniform(0, 5)):
                    async for _ in got.aiter_bytes():
                        pass
        except httpx.HTTPError:
            self._tally.failed += 1
