"""What a request changes, as values: its journal's entries, the delta of a commit, and how a delta is applied.

Pure: a delta on top of a record gives the next record. On a conflict it is applied
again, on top of what others have stored meanwhile.
"""

from collections.abc import Callable
from typing import Any, Final

from msgspec import UNSET, Raw, Struct, UnsetType

from sessioncore._config import SessionConfig
from sessioncore.codec._codec import Codec
from sessioncore.codec._record import Record
from sessioncore.session._plan import Step

__all__ = [
    "DROP", "NOTHING", "NO_CHANGES", "NO_WISHES", "SET", "Attempt", "Delta", "Update", "Wishes", "Write", "apply",
    "is_stale", "rebase", "time_left",
]  # fmt: skip

SET: Final = "set"
DROP: Final = "drop"
NOTHING: Final = Raw(b"\x80")  # an empty dict


class Update(Struct):
    """mutate(): functions to apply, in order, to whatever value is current."""

    functions: list[Callable[[Any], Any]]
    default: Raw | None  # encoded, since a function may change it in place


class Wishes(Struct):
    """Changes to the session itself, not to its values."""

    rotate: bool = False
    login: bool = False
    cleared: bool = False  # another owner's data goes first
    owner: str | UnsetType = UNSET
    details: Raw = NOTHING
    idle: float | None | UnsetType = UNSET

    def __repr__(self) -> str:
        return f"<Wishes rotate={self.rotate} login={self.login}>"


NO_WISHES: Final = Wishes()  # never changed


class Delta(Struct, frozen=True):
    """What a request changes, encoded and ready to be applied to a record."""

    puts: dict[str, Raw]
    drops: list[str]
    updates: dict[str, Update]
    results: dict[str, Raw]  # of the updates, on the values that this request saw
    wishes: Wishes
    order: list[str] | None = None  # of all keys, where it does not follow from the above

    def __repr__(self) -> str:
        return f"<Delta puts={len(self.puts)} drops={len(self.drops)} updates={len(self.updates)}>"

    @property
    def writes(self) -> bool:
        """Whether there is something that deserves a record of its own."""
        return bool(self.puts or self.results or self.wishes.owner is not UNSET)

    @property
    def changes(self) -> bool:
        """Whether an existing record needs to be written."""
        return self.writes or bool(self.drops) or self.wishes.cleared or self.wishes.idle is not UNSET


NO_CHANGES: Final = Delta({}, [], {}, {}, NO_WISHES)  # never changed


class Write(Struct, frozen=True, gc=False):
    """A record on its way into the storage, with the version that it may replace, or that it has got."""

    record: Record
    data: bytes
    ttl: float
    version: int = 0

    def __repr__(self) -> str:
        return f"<Write bytes={len(self.data)} version={self.version}>"


class Attempt(Struct, frozen=True):
    """A write as it is sent; if its reply is lost, all that is needed to find out what became of it."""

    step: Step
    delta: Delta
    write: Write
    new_id: str | None  # under which it would be, if it is not that of the record behind
    merged: bool

    def __repr__(self) -> str:
        return f"<Attempt to {self.step.value}>"  # the fields hold an ID


def is_stale(config: SessionConfig, idle: float | None, full: float, left: float) -> bool:
    """Tell whether the idle clock is to be renewed: `left` seconds are left, renewed now it would have `full`.

    Too little is left: the clock is stale. Too much: the configured timeout was shortened since.
    """
    stale = config.touch_seconds or full * 0.05
    if idle is not None:  # one shorter than the interval would run out under its user's hands
        stale = min(stale, idle * 0.1)
    return abs(full - left) >= stale


def time_left(config: SessionConfig, created_at: float, idle: float, now: float) -> float:
    """Seconds until the session ends unless it is used: the idle timeout, cut at the absolute deadline."""
    if config.absolute_seconds is None:
        return idle
    return min(idle, created_at + config.absolute_seconds - now)


def apply(delta: Delta, record: Record | None, codec: Codec, now: float, *, again: bool) -> Record:
    """Return the record that results from `delta` on top of `record`; pure but for the functions of mutate().

    `again`: `record` is not the one that the request saw, so the updates are computed anew.
    """
    wishes = delta.wishes
    owner = record.owner if record is not None else None
    details = record.details if record is not None else NOTHING
    idle = record.idle if record is not None else None
    created_at = record.created_at if record is not None else now
    data = record.data.copy() if record is not None else {}
    if wishes.cleared or (wishes.login and owner is not None and owner != wishes.owner):
        data, idle = {}, None
    for name in delta.drops:
        data.pop(name, None)
    data.update(delta.puts)
    data.update(_updated(delta, data, codec) if again else delta.results)
    if delta.order is not None and not again:
        data = {name: data[name] for name in (*delta.order, *data) if name in data}
    if wishes.owner is not UNSET:
        owner, details = wishes.owner, wishes.details
    if wishes.idle is not UNSET:
        idle = wishes.idle
    return Record(now if wishes.login else created_at, now, idle, owner, details, data)


def _updated(delta: Delta, data: dict[str, Raw], codec: Codec) -> dict[str, Raw]:
    results: dict[str, Raw] = {}
    for name, update in delta.updates.items():
        raw = data.get(name, update.default)
        if raw is None:
            continue  # deleted by the other request: as if that had come after this update
        value = codec.decode(name, raw)
        for function in update.functions:
            value = function(value)
        results[name] = codec.encode(name, value)
    return results


def rebase(record: Record, seen: Record, there: Record) -> Record:
    """Return `record` with what others have made of `seen` since then; `there` is what they have stored."""
    data = {name: raw for name, raw in record.data.items() if name in there.data or name not in seen.data}
    data |= {name: raw for name, raw in there.data.items() if raw != seen.data.get(name)}
    return Record(
        record.created_at if there.created_at == seen.created_at else there.created_at,
        there.written_at,
        record.idle if there.idle == seen.idle else there.idle,
        record.owner if there.owner == seen.owner else there.owner,
        record.details if there.details == seen.details else there.details,
        data,
    )
