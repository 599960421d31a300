"""Computes what a request has changed, encoded, once for each commit and before any write."""

from msgspec import Raw

from sessioncore.codec._codec import IMMUTABLE
from sessioncore.session._delta import NO_CHANGES, Delta
from sessioncore.session._limits import RELEASED
from sessioncore.session._pending import DROP, NO_METADATA, NOTHING_PENDING, SET, Change, Update
from sessioncore.session._state import SessionState
from sessioncore.session._values import Values

__all__ = ["changes_of"]


def changes_of(state: SessionState) -> Delta:  # noqa: C901, PLR0912 - one walk over the journal
    """Return the difference between the session and the loaded record, or NO_CHANGES.

    The journal notes what was changed in place, so that it is put back if the commit fails. Changes inside
    values after the release are ignored.

    Raises:
        CodecError: a value cannot be encoded; the text names its key.
    """
    values = state.values
    if state.limits is RELEASED:
        return NO_CHANGES
    if values.issued_defaults is not None:
        state.adopt_defaults()
    pending, snapshots = state.pending, values.snapshots
    if pending is None:
        if snapshots is None:
            return NO_CHANGES
        pending = NOTHING_PENDING
    puts: dict[str, Raw] = {}
    drops: list[str] = []
    metadata, changes, items = pending.metadata, pending.changes, values.items
    loaded, encode = state.loaded, values.codec.encode
    base = {} if loaded is None or metadata.cleared else loaded.record.data
    for name, change in changes.items():
        if change is DROP:
            if name in base:
                drops.append(name)
            continue
        if change is not SET and isinstance(change, Update) and not change.applied:
            values.apply_late(name, change)
        encoded = encode(name, items[name])
        if change is not SET and isinstance(change, Update) and change.result not in (None, encoded):
            changes[name] = SET  # its result was changed in place, which would be lost if it were applied anew
        if name in base and encoded == base[name] and not pending.order_changed:
            if type(items[name]) not in IMMUTABLE:  # it may be another object, which can change in place later
                values.keep_snapshot(name, encoded)
            continue  # set to an equal value, in the same position
        puts[name] = encoded
    if snapshots is not None and (in_place := _changed_in_place(values, snapshots, changes)):
        puts |= in_place
        changes = state.begin_write().changes
        changes |= dict.fromkeys(in_place, SET)
    if not (puts or drops) and metadata is NO_METADATA:
        return NO_CHANGES
    return Delta(puts, drops, metadata, changes, list(items) if pending.order_changed else None)


def _changed_in_place(values: Values, snapshots: dict[str, Raw], changes: dict[str, Change]) -> dict[str, Raw]:
    """Return the new bytes of each value that was changed in place and has no entry in the journal."""
    found: dict[str, Raw] = {}
    for name in snapshots:
        changed = None if name in changes or name not in values.items else values.changed_in_place(name)
        if changed is not None:
            found[name] = changed
    return found
