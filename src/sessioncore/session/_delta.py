"""What a commit makes of a record: the session's changes are applied to it, or a login is corrected.

If another request wrote the record meanwhile, this decides which value wins.
"""

from typing import Any, Final

from msgspec import UNSET, Raw, Struct
from msgspec.structs import replace

from sessioncore._opaque import Opaque
from sessioncore.codec._codec import NO_DETAILS, Codec
from sessioncore.codec._record import Record, extended
from sessioncore.session._loaded import Loaded
from sessioncore.session._pending import NO_METADATA, Change, Metadata, Update

__all__ = ["NO_CHANGES", "Correction", "Delta"]


class Delta(Opaque, Struct, frozen=True):
    """The encoded changes of one commit; they can be applied to any record."""

    puts: dict[str, Raw]  # for an Update: the result for the value that this request read
    drops: list[str]
    metadata: Metadata
    changes: dict[str, Change]  # the journal's entries
    order: list[str] | None = None  # the order of all keys; None: it follows from the record and `puts`

    def __repr__(self) -> str:
        return f"<Delta puts={len(self.puts)} drops={len(self.drops)}>"

    def has_changes(self, loaded: Loaded | None) -> bool:
        """Whether the changes need a write to this record; if there is none, timeouts alone do not begin one."""
        if self.puts or self.drops:
            return True
        metadata = self.metadata
        if metadata is NO_METADATA or loaded is None:
            return metadata.owner is not UNSET
        return metadata.cleared or metadata.differs_from(loaded.record)

    def apply_to(self, record: Record | None, now: float, merge_codec: Codec | None) -> Record:
        """Return the record to store in place of `record`, or as a new one (None).

        `merge_codec` is None if this request has loaded `record` itself. If another request wrote
        it meanwhile, `merge_codec` is the codec with which updates are applied to its values.
        """
        metadata = self.metadata
        if record is None or metadata.cleared or (merge_codec is not None and metadata.removes_data_of(record.owner)):
            data: dict[str, Raw] = {}
        else:
            data = record.data.copy()
        for name in self.drops:
            data.pop(name, None)
        if merge_codec is not None:
            self._put_anew(data, merge_codec)
        else:
            data |= self.puts
            if self.order is not None:
                data = {name: data[name] for name in (*self.order, *data) if name in data}
        if metadata is not NO_METADATA:
            return metadata.apply_to(record, now, data)
        if record is None:
            return Record(now, now, None, None, NO_DETAILS, data)
        return replace(record, written_at=now, data=data)

    def _put_anew(self, data: dict[str, Raw], codec: Codec) -> None:
        """Put the values that were set, and apply the updates to the values that another request has stored."""
        for name, raw in self.puts.items():
            change = self.changes.get(name)
            if not isinstance(change, Update):
                data[name] = raw
            elif (theirs := data.get(name, change.default)) is not None:
                data[name] = codec.encode(name, change.apply_to(codec.decode(name, theirs)))
            # else the other request deleted the key: act as if it had done so after this update


NO_CHANGES: Final = Delta({}, [], NO_METADATA, {})  # never changed


class Correction(Struct, frozen=True):
    """Replaces a login's record by another one, such as the one before it, and keeps what others have changed since."""

    record: Record
    login: Record

    def apply_to(self, record: Record | None, now: float, merge_codec: Codec | None) -> Record:
        """Do what `Delta.apply_to` does: return the right record with what others changed in the login's record."""
        right, login = self.record, self.login
        if merge_codec is None or record is None:
            return right
        data = {name: raw for name, raw in right.data.items() if name in record.data or name not in login.data}
        data |= {name: raw for name, raw in record.data.items() if raw != login.data.get(name)}

        def field(name: str) -> Any:
            stored = getattr(record, name)
            return getattr(right, name) if stored == getattr(login, name) else stored

        fields = (field("created_at"), record.written_at, field("idle"), field("owner"), field("details"), data)
        return extended(Record(*fields), field("absolute"), field("persistent"), field("bound_at"))
