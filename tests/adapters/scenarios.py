"""What every adapter owes, as one table: visits of one browser, and what each response must say.

The expectations follow from the design, not from any framework: status, cookie,
Vary, Cache-Control, body, storage calls and the number of stored records. The pages
are in `handlers`; test_scenarios runs the table on every adapter.
"""

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

__all__ = ["SCENARIOS", "Scenario", "Step"]

ANY: Final = "any"  # not the session's business


class Step(Struct, frozen=True):
    """One request, and what must come of it."""

    path: str
    status: int = 200
    cookie: Literal["kept", "set", "cleared", "any"] = "kept"
    vary: str | None = "Cookie"
    cache: str | None = None  # of a response that sets a cookie: no-store, unless this says otherwise
    body: str | None = None
    calls: Sequence[str] | None = None  # to the storage
    stored: int | None = None  # records afterwards
    others: Sequence[str] = ()  # the application's own Set-Cookie lines, in order
    method: str = "GET"


class Scenario(Struct, frozen=True):
    """A name that is a sentence, and the visits of one browser that has no cookies at first."""

    name: str
    steps: tuple[Step, ...]


def _row(name: str, *steps: Step) -> Scenario:
    return Scenario(name, steps)


FIRST: Final = Step("/counter", cookie="set", body="1", calls=["create"], stored=1)
PEEK: Final = Step("/peek", vary=None, body="nothing to see", stored=0)
UNKNOWN: Final = Step("/read", body="{}", stored=0)

_LIFE: Final = (
    _row("a session that is not touched costs nothing and shows nowhere", Step("/peek", vary=None, calls=[], stored=0)),
    _row("a visitor who only reads is not stored", Step("/read", body="{}", calls=[], stored=0)),
    _row(
        "a write is stored and found again with one load and one write",
        FIRST,
        Step("/counter", body="2", calls=["load", "replace"], stored=1),
        Step("/read", body='{"n":2}', calls=["load"]),
    ),
    _row("a read sends no cookie", FIRST, *[Step("/read", body='{"n":1}', calls=["load"])] * 3),
    _row("a live session that is not touched shows nowhere", FIRST, Step("/peek", vary=None, stored=1)),
    _row(
        "mutate is stored",
        Step("/mutate", cookie="set", body="1"),
        Step("/mutate", body="2"),
        Step("/read", body='{"n":2}'),
    ),
    _row(
        "a change in place is stored",
        Step("/append?item=a", cookie="set", body='["a"]'),
        Step("/append?item=b", body='["a","b"]', calls=["load", "replace"]),
        Step("/read", body='{"cart":["a","b"]}'),
    ),
    _row(
        "the same value again is no write",
        Step("/set?k=a&v=1", cookie="set"),
        Step("/set?k=a&v=1", calls=["load"]),
    ),
    _row(
        "login changes the ID and keeps the data",
        FIRST,
        Step("/login?owner=ada", cookie="set", calls=["load", "move"], stored=1),
        Step("/read", body='{"n":1}'),
    ),
    _row(
        "login as another user drops the data",
        FIRST,
        Step("/login?owner=ada", cookie="set"),
        Step("/login?owner=bob", cookie="set", stored=1),
        Step("/read", body="{}"),
    ),
    _row("login of a stranger stores one session", Step("/login", cookie="set", calls=["create"], stored=1)),
    _row(
        "a redirect after login carries the cookie",
        Step("/redirect-login", 302, cookie="set", stored=1),
        Step("/counter", body="1", stored=1),
    ),
    _row("a redirect after login moves the session", FIRST, Step("/redirect-login", 302, cookie="set", stored=1)),
    _row(
        "logout ends the session and clears the cookie",
        FIRST,
        Step("/logout", cookie="cleared", calls=["load", "delete"], stored=0),
        Step("/read", body="{}", calls=[]),
    ),
    _row("logout of a stranger does nothing", *[Step("/logout", calls=[], stored=0)] * 3),
    _row("destroy clears the cookie", FIRST, Step("/destroy", cookie="cleared", stored=0), *[Step("/destroy")] * 2),
    _row(
        "a write after destroy gets a new ID and none of the old data",
        FIRST,
        Step("/destroy?v=new", cookie="set", calls=["load", "delete", "create"], stored=1),
        Step("/read", body='{"v":"new"}'),
    ),
    _row("regenerate changes the ID", FIRST, Step("/regenerate", cookie="set", calls=["load", "move"], stored=1)),
    _row(
        "regenerating twice sends one cookie",
        FIRST,
        Step("/regenerate?times=2", cookie="set", calls=["load", "move"], stored=1),
        Step("/read", body='{"n":1}'),
    ),
    _row("regenerate of a session that is not stored stores nothing", Step("/regenerate", calls=[], stored=0)),
)

_STATUS: Final = tuple(
    _row(
        f"a response with status {code} carries the cookie", Step(f"/status?code={code}", code, cookie="set", stored=1)
    )
    for code in (200, 201, 204, 301, 302, 303, 304, 307, 400, 401, 403, 404, 409, 422)
) + tuple(
    _row(
        f"an exception that is a {code} carries the cookie",
        Step(f"/status?code={code}&raised=1", code, cookie="set", stored=1),
    )
    for code in (302, 401, 403, 404)
)

_FAILURE: Final = (
    _row("a page that does not exist has no part in the session", FIRST, Step("/nowhere", 404, vary=None, stored=1)),
    _row("a new session is not stored on a 500", Step("/status?code=500", 500, calls=[], stored=0)),
    _row(
        "a change is not stored on a 500",
        FIRST,
        Step("/status?code=503", 503, calls=["load"]),
        Step("/read", body='{"n":1}'),
    ),
    _row(
        "login and regenerate are dropped on a 500",
        FIRST,
        Step("/status?code=500&how=login", 500, calls=["load"]),
        Step("/status?code=500&how=regenerate", 500, calls=["load"]),
        Step("/read", body='{"n":1}', stored=1),
    ),
    _row("destroy holds on a 500", FIRST, Step("/status?code=500&how=destroy", 500, cookie="cleared", stored=0)),
    _row(
        "a new session is not stored when the application fails",
        Step("/boom", 500, vary=ANY, cache=ANY, calls=[], stored=0),
        Step("/boom?how=login", 500, vary=ANY, cache=ANY, calls=[], stored=0),
    ),
    _row(
        "nothing is changed when the application fails",
        FIRST,
        Step("/boom", 500, vary=ANY, cache=ANY),
        Step("/boom?how=login", 500, vary=ANY, cache=ANY),
        Step("/boom?how=regenerate", 500, vary=ANY, cache=ANY),
        Step("/read", body='{"n":1}', stored=1),
    ),
    _row(
        "destroy holds when the application fails",
        FIRST,
        Step("/boom?how=destroy", 500, cookie="any", vary=ANY, cache=ANY, stored=0),
        Step("/read", body="{}"),
    ),
    _row(
        "what cannot be stored is an error before the response",
        Step("/status?how=unstorable", 500, vary=None, cache="no-store", body="Internal Server Error", stored=0),
        FIRST,
        Step("/status?how=unstorable", 500, vary=None, cache="no-store", body="Internal Server Error"),
        Step("/read", body='{"n":1}'),
    ),
)

_VARY: Final = (
    *(
        _row(f"Vary is sent after {how}", FIRST, Step(f"/access?how={how}", cookie="kept", body="accessed"))
        for how in ("get", "in", "len", "iter", "keys", "id", "handle", "owner", "truth", "fresh", "mark")
    ),
    _row("a response with the cookie is not for caches", Step("/vary?case=public", cookie="set")),
    _row("nor for a cache with a header of its own", Step("/vary?case=cdn", cookie="set")),
    _row("what is private stays so", Step("/vary?case=private", cookie="set", cache="private, max-age=60")),
    _row("a read leaves Cache-Control alone", Step("/vary?case=public&how=read", cache="public, max-age=60")),
    _row(
        "no use of the session leaves all headers alone",
        FIRST,
        Step("/vary?case=public&how=none", vary=None, cache="public, max-age=60"),
        Step("/vary?case=accept&how=none", vary="accept-encoding"),
    ),
    _row("Vary is merged", Step("/vary?case=accept&how=read", vary="accept-encoding, Cookie")),
    _row("Vary is not repeated", Step("/vary?case=cookie&how=read", vary="cookie")),
    _row("Vary: * says it all", Step("/vary?case=star&how=read", vary="*")),
    _row(
        "the application's cookies keep their order",
        Step("/vary?case=two", cookie="set", others=["a=1; Path=/", "b=2; Path=/"]),
        Step("/vary?case=two&how=read", others=["a=1; Path=/", "b=2; Path=/"]),
    ),
    _row(
        "the application cannot set the session's cookie",
        Step("/vary?case=clash", cookie="set", others=["b=2; Path=/"], stored=1),
        Step("/vary?case=clash&how=read", others=["b=2; Path=/"]),
        Step("/read", body='{"n":1}'),
    ),
    _row("HEAD carries the cookie", Step("/counter", method="HEAD", cookie="set", body="", stored=1)),
    _row("OPTIONS carries the cookie", Step("/counter", method="OPTIONS", cookie="set", stored=1)),
    _row("DELETE carries the cookie", Step("/counter", method="DELETE", cookie="set", stored=1)),
)

_CHUNKS: Final = "chunk 0\nchunk 1\nchunk 2\n"
_STREAM: Final = (
    _row(
        "a stream begins with the cookie, and what it writes is stored at its end",
        Step("/stream", cookie="set", body=_CHUNKS, calls=["create", "replace"], stored=1),
        Step("/read", body='{"before":true,"streamed":2}'),
        Step("/stream", body=_CHUNKS, calls=["load"]),
    ),
    _row(
        "a stream cannot begin a session",
        Step("/late-first-write", vary=ANY, body="started: refused refused refused ", calls=[], stored=0),
    ),
    _row(
        "a stream can change a session, but not its ID",
        FIRST,
        Step("/late-first-write", vary=ANY, body="started: written refused refused ", calls=["load", "replace"]),
        Step("/read", body='{"n":1,"late":true}'),
    ),
    _row(
        "a stream can end a session; the cookie stays behind, dead",
        FIRST,
        Step("/late-destroy", vary=ANY, body="started destroyed", stored=0),
        Step("/read", body="{}", calls=["load"], stored=0),
    ),
    _row("a file carries the cookie", Step("/file", cookie="set", cache="no-store", stored=1), Step("/file", stored=1)),
)

SCENARIOS: Final = (*_LIFE, *_STATUS, *_FAILURE, *_VARY, *_STREAM)
