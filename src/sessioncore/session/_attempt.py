"""A write as it is sent: all that is needed to take its reply, or to find out later what became of it."""

from msgspec import Struct

from sessioncore._storage_calls import Create, Move, Replace
from sessioncore.codec._record import Record
from sessioncore.session._delta import Delta
from sessioncore.session._lifecycle import Action
from sessioncore.session._pending import Pending

__all__ = ["Attempt"]


class Attempt(Struct, frozen=True):
    """One write of one commit."""

    action: Action  # CREATE, REPLACE or MOVE
    call: Create | Replace | Move
    record: Record
    delta: Delta
    pending: Pending | None  # what was set aside for it; None: only values changed in place
    new_id: str | None  # of a record that is created or moved
    handle: str  # of the record once it is stored
    merged: bool  # the record holds what others wrote since it was read

    def __repr__(self) -> str:
        return f"<Attempt {self.action.name}>"  # the fields hold an ID and the values
