"""The one driver: carries out what the machines of loading and committing ask for.

A machine decides without waiting; it gives one step after the other, takes the reply to
each, and calls nobody. The driver asks the storage for an answer at once where it has that
capability, call by call. At the first call that has to wait, the rest of the same steps
runs as a coroutine, which bounds every call in time.
"""

from collections.abc import Awaitable, Callable, Coroutine, Generator
from itertools import count
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar, cast, final

import anyio
from msgspec import Struct

from sessioncore._config import SessionConfig
from sessioncore._errors import KeyTaken, SessionError, StorageError, StorageUnavailable
from sessioncore._events import EventKind, Events
from sessioncore._storage_calls import LATER, Call, Later, Reply
from sessioncore._storage_protocol import AnswersNow, BoundsCalls, capabilities_of
from sessioncore.http._cookies import AmbiguousID

__all__ = ["DONE", "Answer", "AwaitText", "Done", "Driver", "Machine", "Step", "Telling"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@final
class Done(Struct, Generic[T_co], frozen=True):
    """A result that took no waiting; `await` returns it without a turn of the event loop."""

    value: T_co

    def __await__(self) -> Generator[Any, None, T_co]:
        return self.value
        yield  # makes this a generator function


DONE: Final = Done(None)


class AwaitText(Struct, frozen=True):
    """A step of loading: an extractor has to be awaited."""

    text: Awaitable[str | None]


Step: TypeAlias = Call | AwaitText
Answer: TypeAlias = Reply | str | StorageError | AmbiguousID
"""What a step came to: the storage's reply, the extractor's text, or the error that either raised."""

Telling: TypeAlias = tuple[EventKind, str | None, str | None, str]
"""An event to send: its kind, the session's handle, the owner, the detail."""


class Machine(Protocol):
    """What the driver drives: each answer gives the next step, or None at the end."""

    @property
    def events(self) -> list[Telling] | None:
        """What happened; sent at the end."""
        ...

    @property
    def error(self) -> SessionError | None:
        """What to raise at the end, after the events."""
        ...

    def answered(self, answer: Answer) -> Step | None:
        """Take the answer to the last step and return the next one; None at the end."""
        ...


class Driver:
    """Drives machines over the storage of one store, and makes single calls."""

    __slots__ = ("_answer_now", "_bounded", "_events", "_seconds", "_storage")

    def __init__(self, config: SessionConfig, events: Events) -> None:
        storage, seconds = config.storage, config.storage_timeout.total_seconds()
        capabilities = capabilities_of(storage)
        now: Callable[[Call], Reply | Later] | None = None
        if AnswersNow in capabilities:
            now = cast("AnswersNow", storage).answer_now
        self._answer_now = now
        # Cancel scopes are expensive; calls that enforce the timeout themselves get none (see BoundsCalls).
        bounds = BoundsCalls in capabilities and cast("BoundsCalls", storage).bound_calls(seconds)
        self._bounded = frozenset({"load", "create", "replace", "move"}) if bounds else frozenset[str]()
        self._seconds = seconds
        self._storage = storage
        self._events = events

    def drive(self, machine: Machine, step: Step | None) -> Done[None] | Coroutine[Any, Any, None]:
        """Carry out `step` and all that follow; what comes back is Done if no call had to wait.

        Raises:
            SessionError: what the machine came to, here or where the result is awaited.
        """
        now = self._answer_now
        while step is not None:
            if now is None or isinstance(step, AwaitText):
                return self._rest(machine, step)
            answer: Answer | Later
            try:
                answer = now(step)
            except Exception as exc:  # noqa: BLE001 - it is translated
                answer = self._translated(step.operation, exc)
            if answer is LATER:
                return self._rest(machine, step)
            step = machine.answered(answer)
        if machine.events is not None or machine.error is not None:
            self.finish(machine)
        return DONE

    async def _rest(self, machine: Machine, step: Step | None) -> None:
        for number in count():
            if step is None:
                break
            if number > 1:  # several conflicts: a storage that answers at once would not let the others finish
                await anyio.lowlevel.checkpoint()
            step = machine.answered(await self.answer(step))
        self.finish(machine)

    def finish(self, machine: Machine) -> None:
        """Send the events of a machine that is at its end, and raise its error."""
        for event in machine.events or ():
            self._events.send(*event)
        if machine.error is not None:
            raise machine.error

    async def answer(self, step: Step) -> Answer:
        """Carry out one step; what the storage or an extractor raises comes back as a value."""
        try:
            if isinstance(step, AwaitText):
                return await step.text
            return await self.ask(step)
        except (StorageError, AmbiguousID) as exc:
            return exc

    async def ask(self, call: Call) -> Reply:
        """Make one call, for at most `storage_timeout`.

        Raises:
            StorageError: the storage refused, or did not answer in time (StorageUnavailable).
        """
        if call.operation in self._bounded:
            return cast("Reply", await self.unbounded(call.operation, lambda: call.on(self._storage)))
        return cast("Reply", await self.bounded(call.operation, lambda: call.on(self._storage)))

    async def bounded(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        """Await `call()` for at most `storage_timeout`.

        Raises:
            StorageError: the storage refused, or did not answer in time (StorageUnavailable).
        """
        try:
            with anyio.CancelScope(deadline=anyio.current_time() + self._seconds):
                return await call()
            # The scope swallowed a cancellation, and only its own deadline cancels it.
            raise TimeoutError(f"no answer within {self._seconds:g} s; see storage_timeout")
        except Exception as exc:
            error = self._translated(operation, exc)
            if error is exc:
                raise
            raise error from exc

    async def unbounded(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        """Await `call()`: maintenance, whose time depends on how much there is to do, or a call that bounds itself.

        Raises:
            StorageError: the storage refused or failed.
        """
        try:
            return await call()
        except Exception as exc:
            error = self._translated(operation, exc)
            if error is exc:
                raise
            raise error from exc

    def _translated(self, operation: str, exc: Exception) -> StorageError:
        """Return the storage's error for what a call raised, and send its event.

        What the storage did not translate is a failure of the storage all the same. Errors
        of the core itself are raised as they are.
        """
        if isinstance(exc, KeyTaken):
            return exc  # no failure: another key is tried
        if isinstance(exc, SessionError) and not isinstance(exc, StorageError):
            raise exc
        cause = exc.__cause__ or exc if isinstance(exc, StorageError) else exc
        self._events.send(EventKind.STORAGE_ERROR, None, None, f"{operation}: {type(cause).__name__}")
        if isinstance(exc, StorageError):
            return exc
        error = StorageUnavailable(f"the storage failed during {operation} ({type(exc).__name__})")
        error.__cause__ = exc
        return error
