"""What a request changes, as values that can be set aside and put back.

`Pending` is the journal of a request: which keys it set, deleted or mutated, and what
becomes of the session itself (`Metadata`).
"""

from collections.abc import Callable
from typing import Any, Final

from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

__all__ = ["DROP", "EMPTY_DICT", "NOTHING_PENDING", "SET", "UNCHANGED", "Change", "Metadata", "Pending", "Update"]

SET: Final = "set"
DROP: Final = "drop"
EMPTY_DICT: Final = Raw(b"\x80")


class Update(Struct):
    """mutate(): functions to apply, in order, to whatever value is current."""

    functions: list[Callable[[Any], Any]]
    default: Raw | None  # encoded, since a function may change it in place; None: there was no default

    def on(self, value: Any) -> Any:
        """Return what the functions make of `value`."""
        for function in self.functions:
            value = function(value)
        return value


Change = str | Update  # SET, DROP or an update


class Metadata(Struct, frozen=True):
    """Changes to the session itself, not to its values."""

    rotate: bool = False
    login: bool = False
    cleared: bool = False  # another owner's data goes first
    owner: str | UnsetType = UNSET
    details: Raw = EMPTY_DICT
    idle: float | None | UnsetType = UNSET  # None: back to the configured timeout

    def __repr__(self) -> str:
        return f"<Metadata rotate={self.rotate} login={self.login}>"

    def then(self, later: "Metadata") -> "Metadata":
        """Return both changes as one; where both say something, the later one holds."""
        bound = self if later.owner is UNSET else later
        return Metadata(
            rotate=self.rotate or later.rotate,
            login=self.login or later.login,
            cleared=self.cleared or later.cleared,
            owner=bound.owner,
            details=bound.details,
            idle=self.idle if later.idle is UNSET else later.idle,
        )


UNCHANGED: Final = Metadata()


class Pending(Struct):
    """What a request wants changed and has not stored yet.

    Invariants: a key has one entry in `changes`, the newest; the values themselves are in
    `Values.items`. `order_changed` says that the order of the keys no longer follows from
    the record and the journal.
    """

    changes: dict[str, Change] = {}
    order_changed: bool = False
    metadata: Metadata = UNCHANGED

    def __repr__(self) -> str:
        return f"<Pending changes={len(self.changes)} {self.metadata!r}>"

    def change_metadata(self, **changes: Any) -> None:
        """Note a change to the session itself."""
        self.metadata = replace(self.metadata, **changes)

    def change_order(self) -> None:
        """Note that the order of the keys no longer follows from the record and the journal."""
        self.order_changed = True

    def then(self, later: "Pending | None") -> "Pending":
        """Return both journals as one, after a commit of this one failed: `later` came while it was under way."""
        if later is None:
            return self
        changes: dict[str, Change] = {} if later.metadata.cleared else self.changes.copy()
        for name, change in later.changes.items():
            before = changes.get(name)
            if isinstance(change, Update) and isinstance(before, Update):
                changes[name] = Update([*before.functions, *change.functions], before.default)
            elif isinstance(change, Update) and before is not None:
                changes[name] = SET  # the function saw a value of this request; applied alone it would lose it
            else:
                changes[name] = change
        order_changed = self.order_changed or later.order_changed
        return Pending(changes, order_changed, self.metadata.then(later.metadata))


NOTHING_PENDING: Final = Pending()  # never changed
