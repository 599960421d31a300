"""Servers as they are deployed: workers share sessions, and when they stop, nothing that was answered is lost."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from servers.redis_server import one_server
from tests.adapters.browser import Browser, Reply, ask, compose, until
from tests.operations.deployments import AIOHTTP, ASGI, COMMANDS, ROOT, Deployment, deployed
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from sessioncore import SessionConfig, SessionStore, storage_from_url

pytestmark = pytest.mark.timeout(180)

STOPS_IN_ORDER = [name for name in COMMANDS if name != "hypercorn, 2 workers"]  # see docs/operations.md
STORAGE_TIMEOUT = 2.0


def count(site: Deployment, cookie: str, timeout: float = 20.0) -> tuple[int, int]:
    """Add one to the counter of the session; return it, and the process that answered."""
    with site.address.connect() as sock:
        sock.settimeout(timeout)
        sock.sendall(compose("GET", "/count", [("Cookie", cookie), ("Connection", "close")]))
        number, process = b"".join(iter(lambda: sock.recv(4096), b"")).rpartition(b"\r\n\r\n")[2].split()
    return int(number), int(process)


def both_workers_count(site: Deployment, cookie: str) -> None:
    """Freeze one of two workers, so that the other one must answer."""
    before, first = count(site, cookie)
    os.kill(first, signal.SIGSTOP)
    try:
        answers: list[tuple[int, int]] = []

        def answered() -> bool:
            with suppress(TimeoutError, ValueError):
                answers.append(count(site, cookie, 0.5))
            return len(answers) > 0

        until(answered)
    finally:
        os.kill(first, signal.SIGCONT)
    [(after, second)] = answers
    assert second != first
    assert after > before


def waits_for_background_work(server: str) -> bool:
    """aiohttp has none, and granian does not wait for it."""
    return "aiohttp" not in server and server != "granian"


def stored(url: str, cookie: str) -> dict[str, Any]:
    async def look() -> dict[str, Any]:
        async with SessionStore(SessionConfig.development(storage=storage_from_url(url))) as store:
            return dict(await store.get_by_id(cookie.partition("=")[2]))

    return asyncio.run(look())


@pytest.mark.parametrize("server", COMMANDS)
def test_what_was_answered_is_kept_and_requests_in_flight_end_in_order(server: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/sessions.db"
    with deployed(server, tmp_path, url) as site, ThreadPoolExecutor(8) as threads:
        browser = Browser(site.address)
        assert browser.get("/count").text.startswith("1 ")
        cookie = browser.cookie_header()
        if server not in {"hypercorn", "aiohttp"}:
            both_workers_count(site, cookie)
        if server in STOPS_IN_ORDER:
            stops_in_order(site, server, cookie, threads.submit)
        else:
            site.process.send_signal(signal.SIGTERM)
        assert site.process.wait(20) == 0
        if "Traceback" in site.log():
            pytest.fail(site.log())
        kept = stored(url, cookie)
    in_flight = {"slow", "stream", *(["background"] if waits_for_background_work(server) else [])}
    assert kept.pop("n") >= (1 if server in {"hypercorn", "aiohttp"} else 3)
    assert kept == ({"said": "hello"} | dict.fromkeys(in_flight, True) if server in STOPS_IN_ORDER else {})


def stops_in_order(site: Deployment, server: str, cookie: str, submit: Callable[..., Future[Any]]) -> None:
    """Stop a server during requests of every kind, each of which must end."""

    def get(path: str) -> Future[Reply]:
        return submit(ask, site.address, compose("GET", path, [("Cookie", cookie)]))

    paths = ["slow", "stream", *(["background"] if waits_for_background_work(server) else [])]
    replies = {path: get(f"/{path}") for path in paths}
    events = get("/events")
    uri = f"ws://localhost:{site.address.port}/ws"
    with connect(uri, additional_headers=[("Cookie", cookie)], close_timeout=1) as socket:
        socket.send("hello")
        assert socket.recv(20) == "kept"
        until(lambda: site.is_on_its_way(*paths, "events"))
        site.process.send_signal(signal.SIGTERM)
        assert events.result(20).text == "data: begun\n\n"  # so the signal has arrived
        site.let_requests_go_on()
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(20)
        if server != "granian":  # it may cut sockets before the application can close them
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code in {1001, 1012}  # going away; uvicorn: service restart
    assert {path: reply.result(20).text for path, reply in replies.items()} == {
        path: {"slow": "done", "stream": "begun done", "background": "ok"}[path] for path in paths
    }
    site.process.wait(20)


@pytest.mark.redis
@pytest.mark.parametrize("server", ["uvicorn", "hypercorn", "granian", "gunicorn", "aiohttp"])
def test_a_storage_that_hangs_keeps_no_server_from_stopping(server: str, tmp_path: Path) -> None:
    with (
        one_server() as redis,
        deployed(server, tmp_path, redis.url, workers=1) as site,
        ThreadPoolExecutor(2) as threads,
    ):
        browser = Browser(site.address)
        browser.get("/count")
        requests = [
            threads.submit(ask, site.address, compose("GET", path, [("Cookie", browser.cookie_header())]))
            for path in ("/slow", "/events")
        ]
        until(lambda: site.is_on_its_way("slow", "events"))
        redis.signal(signal.SIGSTOP)
        try:
            site.process.send_signal(signal.SIGTERM)
            assert requests[1].result(20).text == "data: begun\n\n"
            began = time.monotonic()
            site.let_requests_go_on()
            assert requests[0].result(20).status == 503
            assert site.process.wait(20) in {0, -signal.SIGTERM}  # the latter: uvicorn without workers
            assert time.monotonic() - began < STORAGE_TIMEOUT + 3.0
        finally:
            redis.signal(signal.SIGCONT)


def test_the_page_shows_the_commands_that_run_here() -> None:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    for server, command in COMMANDS.items():
        if server != "aiohttp":
            shown = command.format(port=8000).replace(ASGI, "shop:app").replace(f"{AIOHTTP}:app", "shop:app")
            assert f"| {server} | `{shown}` |" in page
