"""Decides, without I/O, what the storage's answer says about the session of an open connection."""

from sessioncore._storage_calls import Moved, Reply
from sessioncore.live._watch import Watch
from sessioncore.persistence._load_steps import interpret_load
from sessioncore.session._loaded import Loaded

__all__ = ["judge"]


def judge(watch: Watch, answer: Reply) -> Loaded | Moved | None:
    """Return the record if it is still that of the session, where the session has moved, or None if it was ended.

    With another owner than the one that the request knows, it is not this session any more: who
    has logged in since did not open this connection.
    """
    if isinstance(answer, Moved):
        return answer
    prefix, owner, unknown = watch.context.config.key_prefix, watch.base.record.owner, watch.state.in_flight
    found = interpret_load(watch.context, "", watch.key.removeprefix(prefix), answer, counts_as_use=False)
    if unknown is not None and unknown.new_id is not None:  # the request's own move, whose reply was lost
        if watch.key != prefix + unknown.handle:
            return found if isinstance(found, Loaded) else Moved(prefix + unknown.handle)
        owner = unknown.record.owner
    return found if isinstance(found, Loaded) and found.record.owner == owner else None
