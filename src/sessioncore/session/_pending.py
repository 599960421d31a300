"""The journal of a request: what it has changed and not stored yet.

`Pending` notes which keys were set, deleted or mutated, and the changes to the session
itself (`Metadata`). A commit sets it aside, and puts it back if it stored nothing.
"""

from collections.abc import Callable
from typing import Any, Final

from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from sessioncore._opaque import Opaque
from sessioncore.codec._codec import NO_DETAILS
from sessioncore.codec._record import Record, extended
from sessioncore.session._settings import CONFIGURED, NO_SETTINGS, OwnSettings, Settings

__all__ = ["DROP", "NOTHING_PENDING", "NO_METADATA", "SET", "Change", "Metadata", "Pending", "Update"]

SET: Final = "set"
DROP: Final = "drop"


class Update(Struct):
    """A change by mutate(): functions that are applied, in order, to the current value."""

    functions: list[Callable[[Any], Any]]
    default: Raw | None  # encoded, because a function may change it in place; None: there is no default
    applied: bool  # False: they failed on the value that the session shows since a merge
    result: Raw | None  # the encoded result; None: it cannot change in place, or cannot be encoded

    def apply_to(self, value: Any) -> Any:
        """Return the result of the functions for `value`."""
        for function in self.functions:
            value = function(value)
        return value


Change = str | Update  # SET, DROP or an Update


class Metadata(Opaque, Struct, frozen=True):
    """Changes to the session itself, not to its values."""

    rotate: bool = False
    login: str | None = None  # the owner who logged in; bind_owner may name another one afterwards
    login_after: str | None = None  # the stored owner at that time; another request may have changed it since
    cleared: bool = False  # remove the former owner's data first
    owner: str | UnsetType = UNSET
    details: Raw = NO_DETAILS
    settings: Settings = NO_SETTINGS

    def __repr__(self) -> str:
        return f"<Metadata rotate={self.rotate} login={self.login is not None}>"

    def differs_from(self, record: Record) -> bool:
        """Whether `record` has another owner, other details or other settings."""
        if self.owner is not UNSET and (self.owner, self.details) != (record.owner, record.details):
            return True
        return self.settings.differ_from(record)

    def settings_after(self, own: OwnSettings) -> OwnSettings:
        """Return the settings that a session has after this; a login goes back to the configured ones."""
        return self.settings.applied_to(own if self.login is None else CONFIGURED)

    def apply_to(self, record: Record | None, now: float, data: dict[str, Raw]) -> Record:
        """Return the record with these changes and `data`, to store in place of `record` or as a new one (None)."""
        before = record or Record(now, now, None, None, NO_DETAILS, data)
        created_at, owner, details, bound_at = before.created_at, before.owner, before.details, before.bound_at
        if self.owner is not UNSET:
            if self.owner != owner and record is not None:
                bound_at = now
            owner, details = self.owner, self.details
        if self.login is not None:
            created_at, bound_at = now, None
        idle, absolute, persistent = self.settings_after((before.idle, before.absolute, before.persistent))
        return extended(Record(created_at, now, idle, owner, details, data), absolute, persistent, bound_at)

    def removes_data_of(self, owner: str | None) -> bool:
        """Whether a login removes what is stored, because another request has made `owner` the owner meanwhile."""
        return self.login is not None and owner not in (None, self.login, self.login_after)

    def then(self, later: "Metadata") -> "Metadata":
        """Return both changes as one; where both set the same thing, the later one wins."""
        bound = self if later.owner is UNSET else later
        return Metadata(
            rotate=self.rotate or later.rotate,
            login=self.login if later.login is None else later.login,
            login_after=self.login_after if later.login is None else later.login_after,
            cleared=self.cleared or later.cleared,
            owner=bound.owner,
            details=bound.details,
            settings=self.settings.then(later.settings),
        )


NO_METADATA: Final = Metadata()


class Pending(Opaque, Struct):
    """The journal of what a request has changed and not stored yet.

    Invariants: a key has at most one entry in `changes`, the newest; the values themselves are
    in `Values.items`. If `order_changed`, the order of the keys does not follow from the record
    and the journal.
    """

    changes: dict[str, Change] = {}
    order_changed: bool = False
    metadata: Metadata = NO_METADATA

    def __repr__(self) -> str:
        return f"<Pending changes={len(self.changes)} {self.metadata!r}>"

    def change_metadata(self, **changes: Any) -> None:
        """Note a change to the session itself."""
        self.metadata = replace(self.metadata, **changes)

    def change_order(self) -> None:
        """Note that the order of the keys does not follow from the record and the journal any more."""
        self.order_changed = True

    def then(self, later: "Pending | None") -> "Pending":
        """Return both journals as one, after a commit of this one failed; `later` was written during that commit."""
        if later is None:
            return self
        changes: dict[str, Change] = {} if later.metadata.cleared else self.changes.copy()
        for name, change in later.changes.items():
            before = changes.get(name)
            if isinstance(change, Update) and isinstance(before, Update):
                applied = before.applied and change.applied
                functions = [*before.functions, *change.functions]
                changes[name] = Update(functions, before.default, applied, change.result)
            elif isinstance(change, Update) and before is not None:
                changes[name] = SET  # the function saw a value of this request, which would be lost if applied alone
            else:
                changes[name] = change
        order_changed = self.order_changed or later.order_changed
        return Pending(changes, order_changed, self.metadata.then(later.metadata))


NOTHING_PENDING: Final = Pending()  # never changed
