"""What becomes of a record when others have written meanwhile. Pure but for the functions of mutate()."""

from typing import Protocol

from msgspec import Raw, Struct

from sessioncore.codec._codec import Codec
from sessioncore.codec._record import Record
from sessioncore.session._attempt import Attempt
from sessioncore.session._pending import DROP, SET, Pending, Update
from sessioncore.session._values import Values

__all__ = ["Rewrite", "Undone", "take_merged"]


class Rewrite(Protocol):
    """What a commit makes of a record: from the one it saw to the one that it stores."""

    def on(self, record: Record | None, now: float, others: Codec | None) -> Record:
        """Return the record to store on top of `record`.

        `others`: None if `record` is the one that this request read. If others have written
        since and it is theirs, the codec to compute updates anew with.
        """
        ...


class Undone(Struct, frozen=True):
    """A login that is taken back: the record as it was before, with what others have made of the login's meanwhile."""

    before: Record
    login: Record

    def on(self, record: Record | None, now: float, others: Codec | None) -> Record:
        """Return the former record, with what others changed in the login's record since then."""
        before, login = self.before, self.login
        if others is None or record is None:
            return before
        data = {name: raw for name, raw in before.data.items() if name in record.data or name not in login.data}
        data |= {name: raw for name, raw in record.data.items() if raw != login.data.get(name)}
        return Record(
            before.created_at if record.created_at == login.created_at else record.created_at,
            record.written_at,
            before.idle if record.idle == login.idle else record.idle,
            before.owner if record.owner == login.owner else record.owner,
            before.details if record.details == login.details else record.details,
            data,
        )


def take_merged(values: Values, pending: Pending | None, attempt: Attempt) -> dict[str, Raw]:
    """After a commit on top of others' changes: show what is stored now.

    Others' values replace what was read. Values that this request set stay the objects that
    they are, and changes that came during the commit (`pending`) stay on top. Returns the
    entries whose values are still this request's own.
    """
    data, mine, snapshots = attempt.record.data, values.items, values.snapshots or {}
    puts = attempt.delta.puts.keys() - (attempt.delta.updates or {}).keys()
    own = {name: raw for name, raw in data.items() if name in mine and (name in puts or snapshots.get(name) == raw)}
    later = {} if pending is None else pending.changes
    if pending is not None and pending.metadata.cleared:
        data = {}  # another owner has logged in since: what was stored is not theirs
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
            if raw is None:  # deleted by the other request: as if that had come after this update
                del later[name]
            else:
                items[name] = change.on(values.codec.decode(name, raw))
    return own
