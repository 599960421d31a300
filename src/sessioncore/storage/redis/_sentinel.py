"""Finding the master through its sentinels, in place of redis-py.

redis-py asks one sentinel after the other, and waits for each: if the first one is on the machine
that has died, no connection is ever opened. And its error is a list of objects.
"""

from functools import partial
from typing import Any, cast

from redis.asyncio import SSLConnection
from redis.exceptions import AuthenticationError, ResponseError

from sessioncore.storage.redis._errors import CLIENT_ERRORS, ErrorReply, Explained, error_reply_of, words_of
from sessioncore.storage.redis._first_answer import first_answer
from sessioncore.storage.redis._reasons import reason_of

__all__ = ["NO_SENTINEL", "find_master"]

NO_SENTINEL = "no sentinel answered ({}); look at the sentinels, their addresses and the network"


async def find_master(pool: Any) -> tuple[str, int]:
    """Return the address of the master that a Sentinel pool of redis-py leads to.

    Raises:
        Explained: no sentinel names it.
    """
    try:
        return await first_answer([partial(_ask, pool, sentinel) for sentinel in pool.sentinel_manager.sentinels])
    except (*CLIENT_ERRORS, OSError) as exc:
        by_tls = issubclass(pool.sentinel_manager.sentinels[0].connection_pool.connection_class, SSLConnection)
        why = reason_of(exc, by_tls=by_tls, shaking_hands=True)
        raise Explained(why or NO_SENTINEL.format(words_of(exc))) from exc


async def _ask(pool: Any, sentinel: Any) -> tuple[str, int]:
    manager = pool.sentinel_manager
    try:
        masters = await sentinel.sentinel_masters()
    except (AuthenticationError, ResponseError) as exc:
        raise Explained(_refusal(error_reply_of(exc))) from exc
    state = masters.get(pool.service_name)
    if state is None:
        raise Explained(
            "the sentinels know no master of this name; correct the service in the URL: "
            "SENTINEL MASTERS lists the names"
        )
    if not manager.check_master_state(state, pool.service_name):
        raise Explained("the sentinels say that the master is down; look at it, or wait for the end of the failover")
    forced = cast("str | None", getattr(manager, "_force_master_ip", None))
    return state["ip"] if forced is None else forced, state["port"]


def _refusal(reply: ErrorReply) -> str:
    if reply.code in {"NOAUTH", "WRONGPASS"}:
        return (
            f"a sentinel refused ({reply.code}): it has a user and a password of its own; give them as "
            "?sentinel_username= and sentinel_password= in the URL (those before the @ are for the master)"
        )
    if reply.code == "NOPERM":
        return "a sentinel refused (NOPERM): its user lacks the right +sentinel|masters"
    if "unknown command" in reply.text.lower():
        return (
            "what listens there is no sentinel; sentinels usually have port 26379, and for a server without sentinels "
            "write redis://"
        )
    return f"a sentinel refused ({reply}); look at it"
