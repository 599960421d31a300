"""What a request changes, encoded: computed once for each commit, before any write."""

from typing import Final

from msgspec import UNSET, Raw, Struct

from sessioncore.codec._codec import IMMUTABLE, Codec
from sessioncore.codec._record import Record
from sessioncore.session._loaded import Loaded
from sessioncore.session._pending import DROP, EMPTY_DICT, UNCHANGED, Metadata, Pending, Update
from sessioncore.session._values import Values

__all__ = ["NO_CHANGES", "Delta", "delta_of"]


class Delta(Struct, frozen=True):
    """What a request changes, encoded and ready to be applied to a record."""

    puts: dict[str, Raw]
    drops: list[str]
    updates: dict[str, Update]
    results: dict[str, Raw]  # of the updates, on the values that this request saw
    metadata: Metadata
    order: list[str] | None = None  # of all keys, where it does not follow from the above

    def __repr__(self) -> str:
        return f"<Delta puts={len(self.puts)} drops={len(self.drops)} updates={len(self.updates)}>"

    def has_changes(self, *, stored: bool) -> bool:
        """Whether there is something to write: for a record that is `stored`, or that deserves a record of its own."""
        metadata = self.metadata
        if self.puts or self.results or metadata.owner is not UNSET:
            return True
        return stored and (bool(self.drops) or metadata.cleared or metadata.idle is not UNSET)

    def on(self, record: Record | None, now: float, others: Codec | None) -> Record:
        """Apply the changes to a record; see `Rewrite`."""
        metadata = self.metadata
        if record is None:
            created_at, idle, owner, details, data = now, None, None, EMPTY_DICT, {}
        else:
            created_at, idle, owner = record.created_at, record.idle, record.owner
            details, data = record.details, record.data.copy()
        if metadata is not UNCHANGED:
            if metadata.cleared or (metadata.login and owner is not None and owner != metadata.owner):
                data, idle = {}, None
            if metadata.owner is not UNSET:
                owner, details = metadata.owner, metadata.details
            if metadata.idle is not UNSET:
                idle = metadata.idle
            if metadata.login:
                created_at = now
        for name in self.drops:
            data.pop(name, None)
        data.update(self.puts)
        if self.updates:
            data.update(self.results if others is None else self._updated(data, others))
        if self.order is not None and others is None:
            data = {name: data[name] for name in (*self.order, *data) if name in data}
        return Record(created_at, now, idle, owner, details, data)

    def _updated(self, data: dict[str, Raw], codec: Codec) -> dict[str, Raw]:
        """Compute the updates anew, on what others have stored."""
        results: dict[str, Raw] = {}
        for name, update in self.updates.items():
            raw = data.get(name, update.default)
            if raw is not None:  # else deleted by the other request: as if that had come after this update
                results[name] = codec.encode(name, update.on(codec.decode(name, raw)))
        return results


NO_CHANGES: Final = Delta({}, [], {}, {}, UNCHANGED)  # never changed


def delta_of(values: Values, pending: Pending, loaded: Loaded | None) -> Delta | None:
    """Return what makes the session's values differ from what is loaded; None if nothing does.

    Raises:
        CodecError: a value cannot be encoded; the text names its key.
    """
    puts: dict[str, Raw] = {}
    drops: list[str] = []
    updates: dict[str, Update] = {}
    results: dict[str, Raw] = {}
    metadata, changes, items, snapshots = pending.metadata, pending.changes, values.items, values.snapshots
    base = {} if loaded is None or metadata.cleared else loaded.record.data
    encode = values.codec.encode
    for name, change in changes.items():
        if change is DROP:
            if name in base:
                drops.append(name)
            continue
        encoded = encode(name, items[name])
        if name in base and encoded == base[name] and not pending.order_changed:
            if type(items[name]) not in IMMUTABLE:  # it may be another object, and change in place from now on
                values.keep_snapshot(name, encoded)
            continue  # set to what it was, where it was
        if isinstance(change, Update):
            updates[name], results[name] = change, encoded
        else:
            puts[name] = encoded
    if snapshots is not None:
        for name in snapshots:
            changed = None if name in changes or name not in items else values.changed_in_place(name)
            if changed is not None:
                puts[name] = changed
    if not (puts or drops or results) and metadata is UNCHANGED:
        return None
    return Delta(puts, drops, updates, results, metadata, list(items) if pending.order_changed else None)
