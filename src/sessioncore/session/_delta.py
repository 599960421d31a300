"""The encoded changes of one commit, and how they are applied to a record: the rule for conflicts is here."""

from typing import Final

from msgspec import UNSET, Raw, Struct

from sessioncore.codec._codec import Codec
from sessioncore.codec._record import Record
from sessioncore.session._pending import EMPTY_DICT, UNCHANGED, Change, Metadata, Update

__all__ = ["NO_CHANGES", "Delta"]


class Delta(Struct, frozen=True):
    """The encoded changes of one commit; they can be applied to any record."""

    puts: dict[str, Raw]  # for an Update: the result for the value that this request read
    drops: list[str]
    metadata: Metadata
    changes: dict[str, Change]  # the journal's entries
    order: list[str] | None = None  # the order of all keys; None: it follows from the record and `puts`

    def __repr__(self) -> str:
        return f"<Delta puts={len(self.puts)} drops={len(self.drops)}>"

    def has_changes(self, stored: bool) -> bool:
        """Whether the changes need a write; `stored`: there is a record, so removing something is also a change."""
        metadata = self.metadata
        if self.puts or metadata.owner is not UNSET:
            return True
        return stored and (bool(self.drops) or metadata.cleared or metadata.idle is not UNSET)

    def apply_to(self, record: Record | None, now: float, merge_codec: Codec | None) -> Record:
        """Return `record` with the changes applied; see `Rewrite`."""
        metadata = self.metadata
        if record is None:
            created_at, idle, owner = now, None, None
            details, data = EMPTY_DICT, {}
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
        if merge_codec is None:
            data |= self.puts
        else:
            self._put_anew(data, merge_codec)
        if self.order is not None and merge_codec is None:
            data = {name: data[name] for name in (*self.order, *data) if name in data}
        return Record(created_at, now, idle, owner, details, data)

    def _put_anew(self, data: dict[str, Raw], codec: Codec) -> None:
        """Put the values that were set, and apply the updates to the values that another request has stored."""
        for name, raw in self.puts.items():
            change = self.changes.get(name)
            if not isinstance(change, Update):
                data[name] = raw
            elif (theirs := data.get(name, change.default)) is not None:
                data[name] = codec.encode(name, change.apply_to(codec.decode(name, theirs)))
            # else the other request deleted the key: act as if it had done so after this update


NO_CHANGES: Final = Delta({}, [], UNCHANGED, {})  # never changed
