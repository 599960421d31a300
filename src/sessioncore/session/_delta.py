"""What a request changes, encoded, and what it makes of a record."""

from typing import Final

from msgspec import UNSET, Raw, Struct

from sessioncore.codec._codec import Codec
from sessioncore.codec._record import Record
from sessioncore.session._pending import EMPTY_DICT, UNCHANGED, Metadata, Update

__all__ = ["NO_CHANGES", "Delta"]


class Delta(Struct, frozen=True):
    """What a request changes, encoded and ready to be applied to a record."""

    puts: dict[str, Raw]  # for a key of `updates`: what they came to on the value that this request saw
    drops: list[str]
    metadata: Metadata
    updates: dict[str, Update] | None = None  # None: nothing was mutated
    order: list[str] | None = None  # of all keys, where it does not follow from the above

    def __repr__(self) -> str:
        return f"<Delta puts={len(self.puts)} drops={len(self.drops)}>"

    def has_changes(self, *, stored: bool) -> bool:
        """Whether there is something to write: for a record that is `stored`, or that deserves a record of its own."""
        metadata = self.metadata
        if self.puts or metadata.owner is not UNSET:
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
        if others is None or self.updates is None:
            data.update(self.puts)
        else:
            self._put_anew(data, self.updates, others)
        if self.order is not None and others is None:
            data = {name: data[name] for name in (*self.order, *data) if name in data}
        return Record(created_at, now, idle, owner, details, data)

    def _put_anew(self, data: dict[str, Raw], updates: dict[str, Update], codec: Codec) -> None:
        """Put what was set, and compute the updates anew on what others have stored."""
        for name, raw in self.puts.items():
            update = updates.get(name)
            if update is None:
                data[name] = raw
            elif (theirs := data.get(name, update.default)) is not None:
                data[name] = codec.encode(name, update.on(codec.decode(name, theirs)))
            # else deleted by the other request: as if that had come after this update


NO_CHANGES: Final = Delta({}, [], UNCHANGED)  # never changed
