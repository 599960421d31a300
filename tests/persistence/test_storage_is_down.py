"""A storage that fails, hangs or refuses: an error where the session is used, and never an anonymous visitor."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import product
from typing import Any, NoReturn

import anyio
import pytest
from tests.kit import BOTH_LOOPS, Lab, Work, destroy, login, write
from tests.stores import PromptStorage, SpyStorage
from tests.views import PlainView, Visitor

from sessioncore import ConfigError, EventKind, SessionConfig, SessionStore, StorageError, StorageUnavailable
from sessioncore.storage import MemoryStorage

pytestmark = pytest.mark.anyio

Call = Callable[[Lab], Awaitable[object]]


def request(work: Work, *, first: bool = False) -> Call:
    """A request of the visitor, or of another one without a session."""

    async def call(lab: Lab) -> None:
        async with (Visitor(lab.store) if first else lab.visitor).request() as session:
            await work(session)

    return call


def view(lab: Lab) -> PlainView:
    return PlainView([f"__Host-session_id={lab.visitor.sid}".encode()])


CALLS: list[tuple[str, Call]] = [
    ("load", lambda lab: lab.store.get(view(lab))), ("load", lambda lab: lab.store.get_by_id(lab.visitor.sid or "")),
    ("load", lambda lab: lab.store.sessions_of("ada")), ("load", lambda lab: lab.store.revoke_all("ada")),
    ("load", lambda lab: lab.store.revoke("0" * 64, owner="ada")), ("create", lambda lab: lab.store.create()),
    ("create", request(write, first=True)), ("replace", request(write)), ("move", request(login)),
    ("delete", request(destroy)), ("delete", lambda lab: lab.store.delete(lab.visitor.sid or "")),
    ("delete", lambda lab: lab.store.revoke("0" * 64)), ("delete", lambda lab: lab.store.revoke_all("ada")),
    ("owned_keys", lambda lab: lab.store.sessions_of("ada")), ("owned_keys", lambda lab: lab.store.revoke_all("ada")),
    ("clear", lambda lab: lab.store.reset()), ("purge_expired", lambda lab: lab.store.purge_expired()),
    ("check", lambda lab: lab.store.check()),
]  # fmt: skip
BOUNDED = [(operation, call) for operation, call in CALLS if operation not in {"clear", "purge_expired"}]


async def lab_with_a_session(**config: Any) -> Lab:
    lab = Lab(**config)
    lab.visitor.sid = (await lab.store.create({"n": 1}, owner="ada")).id
    lab.forget()
    return lab


async def unharmed(lab: Lab, sid: str | None) -> None:
    found = await lab.kept(sid)
    assert (dict(found), found.owner, len(lab.storage.inner)) == ({"n": 1}, "ada", 1)


@pytest.mark.proves("P7", "AT-100", "AT-106")
@pytest.mark.parametrize(("operation", "call"), CALLS)
async def test_a_call_that_fails_is_an_error_an_event_and_no_change(operation: str, call: Call) -> None:
    faults: list[tuple[Exception, type[Exception], str]] = [
        (StorageUnavailable("failed by a test"), StorageUnavailable, "failed by a test"),
        (OSError("password=hunter2"), StorageUnavailable, rf"failed during {operation} \(OSError\)"),
        (StorageError("no room"), StorageError, "no room"),
        (ConfigError("another setting"), ConfigError, "another setting"),
    ]
    for (error, raised, text), kind in product(faults, (SpyStorage, PromptStorage)):
        lab = await lab_with_a_session(kind=kind)
        sid = lab.visitor.sid
        lab.storage.fail(operation, error=error)
        with pytest.raises(raised, match=text) as caught:
            await call(lab)
        assert type(caught.value) is raised
        assert "hunter2" not in str(caught.value)
        if isinstance(error, OSError):
            assert caught.value.__cause__ is error
        told = [event.detail for event in lab.sent(EventKind.STORAGE_ERROR)]
        assert told[:1] == ([] if raised is ConfigError else [f"{operation}: {type(error).__name__}"])
        await unharmed(lab, sid)


@pytest.mark.proves("P7", "AT-104")
@BOTH_LOOPS
@pytest.mark.parametrize(("operation", "call"), BOUNDED)
async def test_a_call_that_gets_no_answer_fails_after_storage_timeout(operation: str, call: Call) -> None:
    lab = await lab_with_a_session(storage_timeout=timedelta(milliseconds=20))
    sid = lab.visitor.sid
    lab.storage.hold(operation, times=1)
    with anyio.fail_after(5), pytest.raises(StorageUnavailable, match=rf"within 0.02 s .*{operation}; check") as caught:
        await call(lab)
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert lab.sent(EventKind.STORAGE_ERROR)[0].detail == f"{operation}: TimeoutError"
    await unharmed(lab, sid)


async def test_maintenance_is_not_bounded_by_storage_timeout() -> None:
    lab = await lab_with_a_session(storage_timeout=timedelta(milliseconds=1))
    lab.storage.before |= {"clear": lambda: anyio.sleep(0.02), "purge_expired": lambda: anyio.sleep(0.02)}
    assert await lab.store.purge_expired() == 0
    assert await lab.store.reset() == 1


@BOTH_LOOPS
async def test_a_request_that_is_cancelled_while_it_loads_does_not_wait_for_the_storage() -> None:
    lab = await lab_with_a_session()
    lab.storage.hold("load")
    with anyio.fail_after(10), anyio.move_on_after(0.02) as scope:
        await lab.store.get(view(lab))
    assert scope.cancelled_caught
    assert lab.events == []


# -- storages with faults of their own


class RaisesBeforeItIsAwaited(MemoryStorage):
    def load(self, key: str, *, renew: float | None = None) -> NoReturn:
        raise ConnectionError("refused")


async def test_a_method_that_raises_before_it_is_awaited_has_failed_too() -> None:
    store = SessionStore(SessionConfig(storage=RaisesBeforeItIsAwaited()))
    with pytest.raises(StorageUnavailable) as caught:
        await store.get_by_id("a" * 43)
    assert isinstance(caught.value.__cause__, ConnectionError)
