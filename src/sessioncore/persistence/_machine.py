"""What machines and the driver say to each other: steps, answers, and the events to send at the end.

A machine decides without I/O: it returns one step after the other, and takes the answer to each.
`LoadSteps`, `CommitSteps` and `ReloadSteps` are machines; `Driver` makes the calls that they ask for.
"""

from collections.abc import Awaitable
from typing import Final, NamedTuple, Protocol, TypeAlias, final

from msgspec import Struct

from sessioncore._errors import SessionError, StorageError
from sessioncore._events import EventKind
from sessioncore._storage_calls import Call, Moved, Reply, Stored
from sessioncore.http._ids import AmbiguousID

__all__ = ["Answer", "AwaitText", "Machine", "QueuedEvent", "Step", "check_fields", "unexpected_answer"]


@final
class AwaitText(Struct, frozen=True):
    """A step of loading: await the text of an extractor."""

    text: Awaitable[str | None]


_STORED_FIELDS: Final = (("data", bytes), ("version", int), ("ttl", (int, float)))
_MOVED_FIELDS: Final = (("key", str),)
Step: TypeAlias = Call | AwaitText
Answer: TypeAlias = Reply | str | StorageError | AmbiguousID
"""The result of a step: the storage's reply, the extractor's text, or the error that either raised."""


class QueuedEvent(NamedTuple):
    """An event that the driver sends when the machine has ended; the fields are the arguments of `Events.send`."""

    kind: EventKind
    handle: str | None = None
    owner: str | None = None
    detail: str = ""


class Machine(Protocol):
    """What the driver runs."""

    @property
    def events(self) -> list[QueuedEvent] | None:
        """The events to send at the end."""
        ...

    @property
    def error(self) -> SessionError | None:
        """The error to raise at the end, after the events are sent."""
        ...

    def answered(self, answer: Answer) -> Step | None:
        """Handle the answer to the last step, and return the next one; None at the end."""
        ...


def unexpected_answer(storage: object, operation: str, answer: object, what: str = "") -> StorageError:
    """Return the error for an answer that the storage contract does not allow for this call; `what` describes it."""
    return StorageError(
        f"{type(storage).__name__}.{operation} returned {what or f'a {type(answer).__name__}'}; see the contract in "
        "sessioncore.Storage"
    )


def check_fields(storage: object, operation: str, record: Stored | Moved) -> None:
    """Look at the fields of what the storage has returned: not for each request, but after a TypeError, for example.

    Raises:
        StorageError: a field has a type that the storage contract does not allow.
    """
    for name, kinds in _MOVED_FIELDS if isinstance(record, Moved) else _STORED_FIELDS:
        if not isinstance(value := getattr(record, name), kinds):
            what = f"a {type(record).__name__} whose {name} is a {type(value).__name__}"
            raise unexpected_answer(storage, operation, record, what)
