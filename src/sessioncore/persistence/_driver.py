"""The driver: makes the calls that machines ask for (see `_machine`).

If the storage has the capability AnswersNow, the driver offers it each call first. From the
first call that must be awaited, the remaining steps run in a coroutine, in which every call
has a timeout.
"""

from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final, Generic, TypeAlias, TypeVar, final

import anyio
from msgspec import Struct

from sessioncore._config import listeners
from sessioncore._errors import ConfigError, KeyTaken, SessionError, StorageError, StorageUnavailable
from sessioncore._events import EventKind, StorageListener
from sessioncore._opaque import Opaque
from sessioncore._storage_calls import LATER, Call, Later, Load, Move, Replace, Reply, Stored
from sessioncore._storage_capabilities import AnswersNow, BoundsCalls, LoadsMany
from sessioncore._storage_protocol import capability
from sessioncore.concurrency._locks import NamedLocks
from sessioncore.concurrency._standstill import LateDeadline
from sessioncore.http._ids import AmbiguousID
from sessioncore.persistence._call_timer import CallTimer
from sessioncore.persistence._machine import Answer, AwaitText, Machine, Step, unexpected_answer
from sessioncore.persistence._store_context import StoreContext

__all__ = ["DONE", "Done", "Driver"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@final
class Done(Opaque, Struct, Generic[T_co], frozen=True):
    """A result that is available without waiting; `await` returns it without yielding to the event loop."""

    value: T_co

    def __await__(self) -> Generator[Any, None, T_co]:
        return self.value
        yield  # makes this a generator function


DONE: Final = Done(None)
Perform: TypeAlias = Callable[[Step], Awaitable[Answer]]


class Driver:
    """Runs machines on the storage of one store, and makes single calls."""

    __slots__ = (
        "_answer_now", "_bounded_by_storage", "_events", "_health", "_past_the_cache", "_queues", "_seconds",
        "_storage", "_timer",
    )  # fmt: skip

    def __init__(self, context: StoreContext) -> None:
        config = context.config
        storage, seconds = config.storage, config.storage_timeout.total_seconds()
        answers, bounds = capability(storage, AnswersNow), capability(storage, BoundsCalls)
        answer_now: Callable[[Call], Reply | Later] | None = None if answers is None else answers.answer_now
        timed = [listener for listener in listeners(config) if isinstance(listener, StorageListener)]
        self._timer = CallTimer(timed) if timed else None  # None: no listener asks how long calls take
        if self._timer is not None and answer_now is not None:
            answer_now = self._timer.answering(answer_now)
        for listener in timed:
            listener.attached(storage)
        self._answer_now = answer_now
        self._past_the_cache = None if answer_now is None else capability(storage, LoadsMany)  # see _load_uncached
        # Cancel scopes are slow; calls that enforce the timeout themselves need none (see BoundsCalls).
        self._bounded_by_storage = frozenset[str]()
        willing: object = bounds is not None and bounds.bound_calls(seconds)
        if type(willing) is not bool:  # a coroutine, say, would pass for True, and no call would be bounded
            raise ConfigError(f"{type(storage).__name__}.bound_calls must return True or False, and must not be async")
        if willing:
            self._bounded_by_storage = frozenset({"load", "create", "replace", "move"})
        self._queues = NamedLocks()  # by key
        self._seconds = seconds
        self._storage = storage
        self._events = context.events
        self._health = context.health

    def drive(self, machine: Machine, step: Step | None) -> Done[None] | Coroutine[Any, Any, None]:
        """Carry out `step` and the steps that follow; return Done if no call had to be awaited.

        Raises:
            SessionError: the machine's error; it is raised here, or when the result is awaited.
        """
        answer_now = self._answer_now
        while step is not None:
            if answer_now is None or type(step) is AwaitText:
                return self.drive_rest(machine, step, self.perform)
            answer: Answer | Later
            try:
                answer = answer_now(step)
            except Exception as exc:  # noqa: BLE001 - _to_storage_error handles it
                answer = self._to_storage_error(step.operation, exc)
            if answer is LATER:
                return self.drive_rest(machine, step, self.perform)
            step = machine.answered(answer)
        if machine.events is not None or machine.error is not None:
            self._finish(machine)
        return DONE

    async def drive_rest(self, machine: Machine, first: Step, perform: Perform) -> None:
        """Carry out `first` and the steps that follow, awaiting each; `perform` carries out one.

        Raises:
            SessionError: the machine's error, or one of `perform`.
        """
        step = machine.answered(await perform(first))
        if step is not None:
            if not isinstance(step, (Replace, Move)):
                step = machine.answered(await perform(step))
            await self._drive_in_queue(machine, step, perform)
        self._finish(machine)

    async def _drive_in_queue(self, machine: Machine, step: Step | None, perform: Perform) -> None:
        """Carry out further steps; commits that have met a conflict queue up for their record.

        Each write that succeeds makes all others that are under way fail. Without a queue, the number of calls
        would grow with the square of the number of commits of one record. A commit that has waited
        begins with what the one before it has stored, as if that were its next conflict. The queue is for this
        process; commits of others still cause conflicts.
        """
        async with AsyncExitStack() as waited:
            queue, key = None, ""
            if isinstance(step, (Replace, Move)):
                (scope, late), key = self._time_limit(), step.key
                try:
                    with scope, late:  # after that, the machine gives up at the next conflict
                        queue = await waited.enter_async_context(self._queues.named(key))
                except anyio.get_cancelled_exc_class():
                    machine.answered(StorageError("the write was not sent"))  # so its outcome is known
                    raise
                if queue is not None and queue.for_next is not None and queue.for_next.version != step.version:
                    step = machine.answered(queue.for_next)
            while step is not None:
                await anyio.lowlevel.checkpoint()  # let other tasks run, also if the storage never suspends
                answer = await perform(step)
                if queue is not None and isinstance(step, Replace) and isinstance(answer, int) and step.key == key:
                    queue.for_next = Stored(step.data, answer, step.ttl)
                step = machine.answered(answer)

    def _time_limit(self) -> tuple[anyio.CancelScope, LateDeadline]:
        """Return two contexts for a wait of at most `storage_timeout`, longer if the process stood still meanwhile."""
        scope = anyio.CancelScope(deadline=anyio.current_time() + self._seconds)
        return scope, LateDeadline(scope.deadline, partial(setattr, scope, "deadline"))

    def _finish(self, machine: Machine) -> None:
        """Send the events of a machine that has ended, and raise its error."""
        for event in machine.events or ():
            self._events.send(*event)
        if machine.error is not None:
            raise machine.error

    async def perform(self, step: Step) -> Answer:
        """Carry out one step; return what the storage or an extractor returns or raises."""
        try:
            if isinstance(step, AwaitText):
                return await step.text
            return await self.call(step)
        except (StorageError, AmbiguousID) as exc:
            return exc

    async def call(self, call: Call) -> Reply:
        """Make one call, for at most `storage_timeout`.

        Raises:
            StorageError: the storage refused, or did not reply in time (StorageUnavailable).
        """
        if type(call) is Load and call.uncached:
            invoke = partial(self._load_uncached, call)
        else:
            invoke = partial(call.invoke, self._storage)
        if call.operation in self._bounded_by_storage:
            if self._health.is_failing:
                self._check_health(call.operation)
            reply = await self.unbounded(call.operation, invoke)
        else:
            reply = await self.bounded(call.operation, invoke)
        if type(reply) is not Stored and not isinstance(reply, call.replies):
            raise unexpected_answer(self._storage, call.operation, reply)
        return reply

    async def _load_uncached(self, call: Load) -> Reply:
        """Load past a cache that answers at once, if there is one; it answers no load that renews."""
        if call.renew is not None or (storage := self._past_the_cache) is None:
            reply: Reply = await call.invoke(self._storage)
            return reply
        [reply] = self._checked("load_many", await storage.load_many([call.key]), Load.replies, 1)
        return reply

    async def listed(
        self, operation: str, call: Callable[[], Awaitable[object]], kinds: Any, count: int | None = None
    ) -> Collection[Any]:
        """Await a call that returns a list of (`count`) such objects, for at most `storage_timeout`.

        Raises:
            StorageError: the storage refused, returned something else, or did not reply in time (StorageUnavailable).
        """
        return self._checked(operation, await self.bounded(operation, call), kinds, count)

    def _checked(self, operation: str, reply: object, kinds: Any, count: int | None) -> Collection[Any]:
        if not isinstance(reply, Collection) or isinstance(reply, (str, bytes)):
            raise unexpected_answer(self._storage, operation, reply)
        items: Collection[Any] = reply  # pyright: ignore[reportUnknownVariableType]
        if count is not None and len(items) != count:
            raise unexpected_answer(self._storage, operation, items, f"{len(items)} records instead of {count}")
        for item in items:
            if not isinstance(item, kinds):
                raise unexpected_answer(self._storage, operation, item)
        return items

    async def counted(self, operation: str, call: Callable[[], Awaitable[object]]) -> int:
        """Await a call that returns a number, without a timeout.

        Raises:
            StorageError: the storage refused or failed, or returned something else.
        """
        if not isinstance(reply := await self.unbounded(operation, call), int):
            raise unexpected_answer(self._storage, operation, reply)
        return reply

    async def bounded(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        """Await `call()` for at most `storage_timeout`.

        Raises:
            StorageError: the storage refused, or did not reply in time (StorageUnavailable).
        """

        async def in_time() -> T:
            scope, late = self._time_limit()
            with scope, late:
                return await call()
            # Only the scope's own deadline cancels it, so the call timed out.
            text = f"the storage did not reply within {self._seconds:g} s during {operation}"
            raise StorageUnavailable(f"{text}; check the storage, or raise storage_timeout") from TimeoutError(text)

        if self._health.is_failing:
            self._check_health(operation)
        return await self.unbounded(operation, in_time)

    async def unbounded(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        """Await `call()` without a timeout: for maintenance, which can take long, and for calls that have their own.

        Raises:
            StorageError: the storage refused or failed.
        """
        try:
            reply = await (call() if self._timer is None else self._timer.awaited(operation, call))
        except Exception as exc:
            error = self._to_storage_error(operation, exc)
            if error is exc:
                raise
            raise error from exc
        if self._health.is_failing:
            self._health.worked()
        return reply

    def _check_health(self, operation: str) -> None:
        """Raise StorageUnavailable without a call if the storage has not replied in time lately."""
        if self._health.refuses():
            self._events.send(EventKind.STORAGE_ERROR, None, None, f"{operation}: not tried")
            raise self._health.error()

    def _to_storage_error(self, operation: str, exc: Exception) -> StorageError:
        """Convert what a call raised to a StorageError, and send the event for it.

        An error that the storage did not translate becomes StorageUnavailable. Errors of the
        core itself are raised unchanged.
        """
        if isinstance(exc, KeyTaken):
            return exc  # not a failure: the commit tries another key
        if isinstance(exc, SessionError) and not isinstance(exc, StorageError):
            raise exc
        self._health.failed(exc)
        cause = exc.__cause__ or exc if isinstance(exc, StorageError) else exc
        self._events.send(EventKind.STORAGE_ERROR, None, None, f"{operation}: {type(cause).__name__}")
        if isinstance(exc, StorageError):
            return exc
        name, what = type(self._storage).__name__, type(exc).__name__
        error = StorageUnavailable(f"the storage {name} failed during {operation} ({what}); see its cause")
        error.__cause__ = exc
        return error
