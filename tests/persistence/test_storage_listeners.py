"""Listeners of the storage's calls: notified of each one, once, with its outcome and its duration."""

from datetime import timedelta
from itertools import product

import anyio
import pytest
from tests.kit import BOTH_LOOPS, Lab
from tests.persistence.test_storage_is_down import CALLS, Call
from tests.stores import AlternatingStorage, PromptStorage, SpyStorage
from tests.turns import comes_true

from sessioncore import (
    ConfigError,
    MemoryStorage,
    Session,
    SessionConfig,
    SessionError,
    SessionEvent,
    SessionStore,
    StorageError,
    StorageListener,
)
from sessioncore.storage import KeyTaken

pytestmark = pytest.mark.anyio


class Recorder(StorageListener):
    """Records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float, str]] = []
        self.events: list[SessionEvent] = []
        self.storages: list[object] = []

    def __call__(self, event: SessionEvent) -> None:
        self.events.append(event)

    def storage_call(self, operation: str, seconds: float, outcome: str) -> None:
        assert seconds >= 0
        self.calls.append((operation, seconds, outcome))

    def attached(self, storage: object) -> None:
        self.storages.append(storage)

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        return [(operation, outcome) for operation, _, outcome in self.calls]


async def lab_with_recorder(kind: type[SpyStorage] = SpyStorage) -> tuple[Lab, Recorder]:
    recorder, events = Recorder(), list[SessionEvent]()
    lab = Lab(kind=kind, storage_timeout=timedelta(milliseconds=50), on_event=[events.append, recorder])
    lab.visitor.sid = (await lab.store.create({"n": 1}, owner="ada")).id
    assert recorder.events == events != []
    lab.forget()
    recorder.calls.clear()
    return lab, recorder


@pytest.mark.parametrize(("operation", "call"), CALLS)
async def test_each_call_is_reported_once(operation: str, call: Call) -> None:
    for kind, fails in product((SpyStorage, PromptStorage, AlternatingStorage), (False, True)):
        lab, recorder = await lab_with_recorder(kind)
        assert recorder.storages == [lab.storage]
        if fails:
            lab.storage.fail(operation)
        try:
            await call(lab)
        except SessionError:
            assert fails or operation == "load", "one call looks for a handle that nobody has"
        assert [name for name, _ in recorder.outcomes] == lab.calls
        assert (operation, "error" if fails else "ok") in recorder.outcomes
        assert {outcome for name, outcome in recorder.outcomes if name != operation} <= {"ok"}


@BOTH_LOOPS
async def test_a_call_without_a_reply_and_one_that_is_cut_off_are_told_apart() -> None:
    lab, recorder = await lab_with_recorder()
    with lab.storage.hold("load"):
        with pytest.raises(StorageError):
            await lab.store.get_by_id(lab.visitor.sid or "")
        with anyio.move_on_after(0.01):
            await lab.store.get_by_id(lab.visitor.sid or "")
    assert recorder.outcomes == [("load", "timeout"), ("load", "cancelled")]
    assert 0.04 < recorder.calls[0][1] < 5


async def test_an_id_that_is_taken_is_no_error_of_the_storage() -> None:
    lab, recorder = await lab_with_recorder()
    lab.storage.fail("move", times=1, error=KeyTaken("taken by a test"))
    async with lab.visitor.request() as session:
        await session.login("bob")
    assert [outcome for outcome in recorder.outcomes if outcome[0] == "move"] == [("move", "ok"), ("move", "ok")]


async def test_look_ups_for_open_connections_are_reported() -> None:
    recorder = Recorder()
    session: Session = await SessionStore(SessionConfig(storage=MemoryStorage(), on_event=recorder)).create({"n": 1})
    async with session.alive():
        await comes_true(lambda: ("watch", "ok") in recorder.outcomes)


async def test_a_listener_that_fails_changes_nothing_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(StorageListener):
        def storage_call(self, operation: str, seconds: float, outcome: str) -> None:
            raise ZeroDivisionError("a fault of the listener")

    recorder = Recorder()
    store = SessionStore(SessionConfig(on_event=[Broken(), recorder]))
    session = await store.create({"n": 1})
    assert (await store.get_by_id(session.id))["n"] == 1
    assert recorder.outcomes == [("create", "ok"), ("load", "ok")]
    assert "storage_call raised for 'create'" in caplog.text
    assert "a fault of the listener" in caplog.text


async def test_a_listener_whose_method_is_async_is_refused() -> None:
    class Async(StorageListener):
        async def storage_call(self, operation: str, seconds: float, outcome: str) -> None: ...  # type: ignore[override]

    with pytest.raises(ConfigError, match="on_event"):
        SessionConfig(on_event=Async())
