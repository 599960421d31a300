"""Storages that are down, slow or fail on one operation, and clients that leave, on every adapter."""

import contextlib
import http.client
import random
import secrets
import socket
import struct
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
from tests.adapters.browser import Reply, compose, until
from tests.adapters.conftest import OpenSite, Site
from tests.numbers import scaled

from sessioncore import RequestView, SessionError, chain, from_cookie, from_form


def _unavailable(reply: Reply, path: str = "") -> None:
    assert (reply.status, reply.text) == (503, "Service Unavailable"), path
    assert reply.one("content-type") == "text/plain; charset=utf-8"
    assert reply.one("cache-control") == "no-store"
    assert reply.set_cookies == []
    assert reply.one("location") is None
    assert reply.one("vary") is None  # the page, with its headers, was not sent


def _with(sid: str) -> tuple[str, str]:
    return "Cookie", f"__Host-session_id={sid}"


FAILING: list[tuple[str, str]] = [  # a page, and the operation that fails; "" for all
    ("/read", ""), ("/counter", ""), ("/login", ""), ("/redirect-login", ""), ("/logout", ""), ("/destroy", ""),
    ("/regenerate", ""), ("/stream", ""), ("/file", ""), ("/counter", "replace"), ("/login", "move"),
    ("/redirect-login", "move"), ("/status?code=404&raised=1", "replace"), ("/regenerate", "move"),
    ("/logout", "delete"), ("/destroy", "delete"), ("/file", "replace"), ("/stream", "replace"),
]  # fmt: skip


@pytest.mark.proves("P3", "P7", "AT-106", "AT-107", "ASVS 16.5.3")
def test_a_storage_that_fails_is_no_success_and_no_anonymous_visitor(site: Site) -> None:
    sid = site.make({"n": 1})
    for path, operation in FAILING:
        site.storage.fail(*filter(None, [operation]))
        _unavailable(site.raw(path, _with(sid)), path)
        site.storage.restore()
        assert site.data(sid) == {"n": 1}, path
        assert site.count() == 1
    assert site.raw("/read", _with(sid)).text == '{"n":1}'


@pytest.mark.proves("P7")
@pytest.mark.parametrize("call", ["", "load", "replace", "owned_keys"])
def test_a_failure_that_the_application_hides_is_a_503_all_the_same(site: Site, call: str) -> None:
    sid = site.make({"n": 1})
    site.storage.fail(*filter(None, [call]))
    kind = "/revoke" if call == "owned_keys" else "/hidden"  # a method of the store, or of the session
    for path in (kind, f"{kind}?how=answer", f"{kind}?wrapped=1"):
        _unavailable(site.raw(path, _with(sid)), path)


@pytest.mark.proves("P7", "AT-105")
def test_a_page_that_needs_no_session_needs_no_storage(site: Site) -> None:
    sid = site.make({"n": 1})
    site.storage.fail()
    for path in ("/peek", "/status?how=none", "/vary?how=none"):
        reply = site.raw(path, _with(sid))
        assert (reply.status, reply.set_cookies) == (200, [])
    assert site.raw("/read").text == "{}"  # without an ID the storage is not called


@pytest.mark.proves("P3", "AT-107")
def test_a_session_that_was_not_stored_has_no_cookie(site: Site) -> None:
    site.storage.fail("create")
    for path in ("/counter", "/login", "/redirect-login", "/stream", "/file", "/status?code=204"):
        _unavailable(site.raw(path), path)
        head = site.raw(path, method="HEAD")
        assert (head.status, head.body, head.set_cookies) == (503, b"", []), path
    assert site.count() == 0
    site.storage.restore()
    assert site.raw("/counter").status == 200  # the server still works


@pytest.mark.proves("P3")
def test_a_late_change_that_fails_breaks_the_stream_and_leaves_the_server_well(site: Site) -> None:
    sid = site.make({"n": 1})
    site.storage.fail("replace")
    with pytest.raises(http.client.IncompleteRead):
        site.raw("/late-first-write", _with(sid))
    assert site.calls(2) == ["load", "replace"]
    site.storage.restore()
    assert site.raw("/read", _with(sid)).text == '{"n":1}'


@pytest.mark.proves("P3")
def test_a_client_that_has_read_a_stream_to_its_end_finds_its_changes(site: Site) -> None:
    sid = site.make({"n": 1})
    stored: list[object] = []

    async def slowly() -> None:
        await anyio.sleep(0.02)
        stored.append(True)

    site.storage.before["replace"] = slowly
    assert site.raw("/late-first-write", _with(sid)).text == "started: written refused refused "
    assert stored
    assert site.data(sid) == {"n": 1, "late": True}


def test_a_stream_that_fails_drops_what_it_wrote(site: Site) -> None:
    sid = site.make({"n": 1})
    with pytest.raises(Exception, match=r"(?i)incomplete|reset|eof|read"):
        site.raw("/late-boom", _with(sid))
    assert site.raw("/read", _with(sid)).text == '{"n":1,"early":true}'


def test_the_application_can_choose_the_text_of_an_error(open_site: OpenSite) -> None:
    def on_error(_: RequestView, error: SessionError) -> tuple[int, str]:
        return 418, f"tea time: {type(error).__name__}"

    site = open_site(on_error=on_error)
    site.storage.fail("create")
    for path in ("/counter", "/stream", "/file", "/redirect-login"):
        reply = site.raw(path)
        assert (reply.status, reply.text) == (418, "tea time: StorageUnavailable")
        assert reply.set_cookies == []


@pytest.mark.proves("P4", "AT-43", "AT-44")
def test_parallel_requests_lose_nothing(site: Site) -> None:
    users, visits = 5, 5 * scaled(100)
    sids = [site.make({"user": number}) for number in range(users)]

    def visit(number: int) -> set[int]:
        return {site.raw(path, _with(sids[number % users])).status for path in (f"/set?k=key{number}&v=x", "/mutate")}

    with ThreadPoolExecutor(10) as pool:
        assert set().union(*pool.map(visit, range(visits))) == {200}
    for who, sid in enumerate(sids):
        keys = {f"key{number}": "x" for number in range(who, visits, users)}
        assert site.data(sid) == {"user": who, "n": visits // users, **keys}


@pytest.mark.proves("P3", "AT-103")
@pytest.mark.parametrize(("path", "visits"), [("/slow", 15), ("/slow?regenerate=1", 1)])
def test_clients_that_leave_at_any_moment_leave_nothing_half_done(open_site: OpenSite, path: str, visits: int) -> None:
    """Each closes the connection at a random moment, half of them by RST; no record shows half of a request."""
    issued: list[str] = []

    def issue() -> str:
        issued.append(secrets.token_urlsafe(32))
        return issued[-1]

    site = open_site(id_generator=issue)
    users = max(2, scaled(300) // visits)
    sids = [site.make({"user": number, "a": 0, "b": 0}) for number in range(users)]
    chance = random.Random(20261123)

    def visit(number: int) -> None:
        request = compose("GET", path, [_with(sids[number % users])])
        _leave(site, request[: chance.choice([len(request)] * 4 + [len(request) // 2])], chance)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(visit, range(scaled(300))))
    # Requests of clients that have gone may still be running: wait until nothing changes any more.
    until(lambda: site.calls() == [] and site.raw("/slow").status == 200 and site.calls() == ["create"])
    records = [record for sid in issued if (record := site.data(sid)) is not None and "user" in record]
    assert sorted(record["user"] for record in records) == list(range(users))  # each once: none lost, none doubled
    assert all(record["a"] == record["b"] for record in records)
    assert any(record["a"] > 0 for record in records)


def test_uploads_that_stop_halfway_leave_nothing(open_site: OpenSite) -> None:
    site = open_site(extractor=chain(from_cookie(), from_form("sid")))
    chance = random.Random(1)
    head = [("Content-Type", "application/x-www-form-urlencoded")]
    for body in (b"sid=" + b"x" * 200_000, b"a=" + b"x" * 3_000_000):
        request = compose("POST", "/form", head, body)
        for _ in range(scaled(20)):
            _leave(site, request[: chance.randrange(len(request))], chance)
    assert site.raw("/counter").text == "1"
    assert site.count() == 1


def _leave(site: Site, request: bytes, chance: random.Random) -> None:
    """Send this part of a request, wait a moment, and close the connection by FIN or by RST."""
    try:
        sock = site.address.connect()
    except OSError:
        return
    with sock:
        if chance.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.sendall(request)
        sock.settimeout(chance.uniform(0.0001, 0.006))
        with contextlib.suppress(OSError):  # time is up, or the server was quicker to close
            sock.recv(10)
