"""After a conflict: what the session shows from then on, and how a login is undone.

Which value wins is decided in `_delta`.
"""

from typing import Protocol

from msgspec import Raw, Struct

from sessioncore.codec._codec import Codec
from sessioncore.codec._record import Record, with_settings
from sessioncore.session._attempt import Attempt
from sessioncore.session._pending import DROP, SET, Pending, Update
from sessioncore.session._values import Values

__all__ = ["Rewrite", "Undone", "take_merged"]


class Rewrite(Protocol):
    """What a commit does to a record: a `Delta`, or `Undone`."""

    def apply_to(self, record: Record | None, now: float, merge_codec: Codec | None) -> Record:
        """Return the record to store in place of `record`.

        `merge_codec` is None if this request has loaded `record` itself. If another request wrote
        it meanwhile, `merge_codec` is the codec with which updates are applied to its values.
        """
        ...


class Undone(Struct, frozen=True):
    """Undoes a login: restores the former record, but keeps what other requests changed after the login."""

    before: Record
    login: Record

    def apply_to(self, record: Record | None, now: float, merge_codec: Codec | None) -> Record:
        """Return the former record with the changes that others made to the login's record."""
        before, login = self.before, self.login
        if merge_codec is None or record is None:
            return before
        data = {name: raw for name, raw in before.data.items() if name in record.data or name not in login.data}
        data |= {name: raw for name, raw in record.data.items() if raw != login.data.get(name)}
        restored = Record(
            before.created_at if record.created_at == login.created_at else record.created_at,
            record.written_at,
            before.idle if record.idle == login.idle else record.idle,
            before.owner if record.owner == login.owner else record.owner,
            before.details if record.details == login.details else record.details,
            data,
        )
        return with_settings(
            restored,
            before.absolute if record.absolute == login.absolute else record.absolute,
            before.persistent if record.persistent is login.persistent else record.persistent,
        )


def take_merged(values: Values, pending: Pending | None, attempt: Attempt) -> dict[str, Raw]:
    """After a commit that merged: update the session's values to what is now stored.

    Values of other requests replace the ones that were read. Values that this request set stay
    the same objects, and changes made during the commit (`pending`) stay on top. Returns the
    stored entries whose values this request already had.
    """
    data, mine, snapshots = attempt.record.data, values.items, values.snapshots or {}
    changes = attempt.delta.changes
    puts = {name for name in attempt.delta.puts if not isinstance(changes.get(name), Update)}
    own = {name: raw for name, raw in data.items() if name in mine and (name in puts or snapshots.get(name) == raw)}
    later = {} if pending is None else pending.changes
    if pending is not None and pending.metadata.cleared:
        data = {}  # another owner has logged in meanwhile, who must not see the former owner's values
    items = {
        name: mine[name] if name in own and name not in later else raw
        for name, raw in data.items()
        if later.get(name) is not DROP
    }
    values.rebase(items)
    for name, change in list(later.items()):
        if change is SET:
            items[name] = mine[name]
        elif isinstance(change, Update):
            raw = data.get(name, change.default)
            if raw is None:  # the other request deleted the key: act as if it had done so after this update
                del later[name]
            else:
                try:
                    items[name] = change.apply_to(values.codec.decode(name, raw))
                except Exception:  # noqa: BLE001 - this commit has stored its record; the next one raises the error
                    change.applied = False
    return own
