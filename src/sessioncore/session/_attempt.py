"""One attempt to write a record: what is needed to handle its reply, or to find out later whether it was stored."""

from msgspec import UNSET, Struct
from msgspec.structs import replace

from sessioncore._opaque import Opaque
from sessioncore._storage_calls import Create, Move, Replace, Stored
from sessioncore.codec._record import Record
from sessioncore.session._delta import Delta
from sessioncore.session._lifecycle import Action
from sessioncore.session._loaded import Loaded
from sessioncore.session._pending import Pending

__all__ = ["Attempt"]


class Attempt(Opaque, Struct, frozen=True):
    """One write of one commit."""

    action: Action  # CREATE, REPLACE or MOVE
    call: Create | Replace | Move
    record: Record
    delta: Delta
    pending: Pending | None  # the journal that it stores; None: it stores none, as when a login is undone
    new_id: str | None  # the ID of a record that is created or moved
    handle: str  # the record's handle once it is stored
    merged: bool  # the record includes changes of other requests
    base: Record | None = None  # the stored record to which the changes were applied; None: there was none

    @property
    def new_owner(self) -> str | None:
        """The owner that it sets; None: it sets none."""
        owner = self.delta.metadata.owner
        return None if owner is UNSET else owner

    def is_stored_as(self, current: Stored) -> bool:
        """Whether a record is the one of this write: it contains the time of writing, so equal bytes mean yes."""
        return current.data == self.call.data

    def to_loaded(self, version: int, before: Loaded | None, origin: str = "") -> Loaded:
        """Return the record as this write has stored it; `before` is the former record.

        If there was none (None), the write has created the record, and `origin` becomes `Loaded.origin`.
        """
        record, ttl = self.record, self.call.ttl
        if before is None:
            assert self.new_id is not None, "only a replace has no new ID"
            return Loaded(
                self.new_id, self.handle, record, version, ttl, record.written_at, renewed=True, origin=origin
            )
        former, changed = before.record, before.cookie_changed
        if type(record) is not Record or type(former) is not Record:  # else both lack the fields compared here
            changed |= record.absolute != former.absolute or record.persistent is not former.persistent
        return replace(
            before, session_id=self.new_id or before.session_id, handle=self.handle, record=record, version=version,
            ttl=ttl, as_of=record.written_at, renewal_due=False, renewed=True, cookie_changed=changed,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<Attempt {self.action.name}>"  # the fields contain an ID and values
