"""Reloading: the session takes over what others have stored, and keeps its own changes on top."""

from typing import Any

from msgspec import Raw
from msgspec.structs import replace

from sessioncore.codec._codec import IMMUTABLE
from sessioncore.session._changes import changes_of
from sessioncore.session._loaded import Loaded
from sessioncore.session._pending import DROP, NO_METADATA, SET, Change, Pending, Update
from sessioncore.session._state import SessionState

__all__ = ["take_over"]


def take_over(state: SessionState, found: Loaded) -> None:
    """Make `found` the loaded record; the session then shows what a commit would store now.

    Values that others have not changed stay the same objects, as do those that this request set.

    Raises:
        CodecError: a value of this request cannot be encoded; the session is unchanged.
        Exception: a function given to `mutate` failed on the new value; the session is unchanged.
    """
    loaded, values, theirs = state.loaded, state.values, found.record
    assert loaded is not None, "nothing is stored"
    found = replace(found, renewed=loaded.renewed or found.renewed, cookie_changed=loaded.cookie_changed)
    if found.version == loaded.version:
        state.apply_reloaded(found, state.pending)
        return
    delta = changes_of(state)
    data = delta.apply_to(theirs, theirs.written_at, values.codec).data
    changes: dict[str, Change] = {name: delta.changes.get(name, SET) for name in delta.puts if name in data}
    items: dict[str, Any] = {}
    known, snapshots = values.snapshots or {}, dict[str, Raw]()
    for name, raw in data.items():
        change = changes.get(name)
        if isinstance(change, Update):
            items[name] = value = values.codec.decode(name, raw)
            changes[name] = replace(change, result=None if type(value) in IMMUTABLE else raw)
        elif change is SET:
            items[name] = values.items[name]
        elif known.get(name) == raw:
            items[name], snapshots[name] = values.items[name], raw
        else:
            items[name] = raw
    changes |= dict.fromkeys(delta.drops, DROP)
    metadata = delta.metadata
    if metadata.removes_data_of(theirs.owner):  # another request has changed the owner since this one's login
        metadata = replace(metadata, cleared=True)
    values.rebase(items, snapshots or None)
    state.apply_reloaded(found, Pending(changes, metadata=metadata) if changes or metadata is not NO_METADATA else None)
