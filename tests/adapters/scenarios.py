"""What every adapter must do, as one table: visits of one browser, and what each response must contain.

The expectations follow from the design, not from any framework: status, cookie,
Vary, Cache-Control, body, storage calls and the number of stored records. The pages
are in `pages`; test_scenarios runs the table on every adapter.
"""

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

__all__ = ["SCENARIOS", "Scenario", "Step"]

ANY: Final = "any"  # not checked: the session does not decide it


class Step(Struct, frozen=True):
    """One request, and what it must lead to."""

    path: str
    status: int = 200
    cookie: Literal["kept", "set", "renewed", "cleared", "any"] = "kept"  # renewed: sent again with the same ID
    max_age: str = "86400|863[0-9]{2}"  # a pattern; empty: the cookie has none
    vary: str | None = "Cookie"
    cache: str | None = None  # of a response that sets a cookie: no-store, unless this says otherwise
    body: str | None = None
    calls: Sequence[str] | None = None  # to the storage
    stored: int | None = None  # the number of records afterwards
    others: Sequence[str] = ()  # the application's own Set-Cookie lines, in order
    method: str = "GET"


class Scenario(Struct, frozen=True):
    """A name that is a sentence, and the visits of one browser that has no cookies at first."""

    name: str
    steps: tuple[Step, ...]
    by_strangers: bool = False  # each visit is by a browser of its own


def _row(name: str, *steps: Step, by_strangers: bool = False) -> Scenario:
    return Scenario(name, steps, by_strangers)


# fmt: off
FIRST: Final = Step("/counter", cookie="set", body="1", calls=["create"], stored=1)
MONTH: Final = "2592000|25919[0-9]{2}"
ONE: Final = Step("/read", body='{"n":1}', stored=1)  # what FIRST has stored, and nothing else

_LIFE: Final = (
    _row("a session that is not touched costs nothing and shows nowhere",
         Step("/peek", vary=None, calls=[], stored=0), FIRST, Step("/peek", vary=None, stored=1)),
    _row("a visitor who only reads is not stored", Step("/read", body="{}", calls=[], stored=0)),
    _row("a write is stored and found again with one load and one write",
         FIRST, Step("/counter", body="2", calls=["load", "replace"], stored=1),
         Step("/read", body='{"n":2}', calls=["load"])),
    _row("a read sends no cookie", FIRST, Step("/read", body='{"n":1}', calls=["load"]), ONE),
    _row("mutate is stored",
         Step("/mutate", cookie="set", body="1"), Step("/mutate", body="2"), Step("/read", body='{"n":2}')),
    _row("a change in place is stored",
         Step("/append?item=a", cookie="set", body='["a"]'),
         Step("/append?item=b", body='["a","b"]', calls=["load", "replace"]), Step("/read", body='{"cart":["a","b"]}')),
    _row("the same value again is no write", Step("/set?k=a&v=1", cookie="set"), Step("/set?k=a&v=1", calls=["load"])),
    _row("a save is not repeated at the end", Step("/save", cookie="set", calls=["create"], stored=1)),
    _row("a reload shows what others have stored and stores nothing itself",
         FIRST, Step("/reload", body='{"n":11,"theirs":true}', calls=["load", "load", "replace", "load", "replace"]),
         Step("/read", body='{"n":11,"theirs":true}', stored=1)),
    _row("login changes the ID and keeps the data",
         FIRST, Step("/login?owner=ada", cookie="set", calls=["load", "move"], stored=1), ONE),
    _row("login as another user drops the data",
         FIRST, Step("/login?owner=ada", cookie="set"), Step("/login?owner=bob", cookie="set", stored=1),
         Step("/read", body="{}")),
    _row("login of a stranger stores one session", Step("/login", cookie="set", calls=["create"], stored=1)),
    _row("remember-me is for one login, and not for the next",
         FIRST, Step("/login?remember=1", cookie="set", max_age=MONTH), ONE, Step("/login", cookie="set"), ONE,
         Step("/status?how=remember", cookie="renewed", max_age=MONTH, calls=["load", "replace"]), ONE,
         Step("/status?how=forget", cookie="renewed", max_age=""), Step("/regenerate", cookie="set", max_age=""),
         Step("/login", cookie="set"), ONE),
    _row("a redirect after login carries the cookie",
         Step("/redirect-login", 302, cookie="set", stored=1), Step("/counter", body="1", stored=1),
         Step("/redirect-login", 302, cookie="set", stored=1), ONE),
    _row("logout ends the session and clears the cookie",
         FIRST, Step("/logout", cookie="cleared", calls=["load", "delete"], stored=0),
         Step("/read", body="{}", calls=[])),
    _row("logout of a stranger does nothing", *[Step("/logout", calls=[], stored=0)] * 2),
    _row("destroy clears the cookie", FIRST, Step("/destroy", cookie="cleared", stored=0), Step("/destroy")),
    _row("a write after destroy gets a new ID and none of the old data",
         FIRST, Step("/destroy?v=new", cookie="set", calls=["load", "delete", "create"], stored=1),
         Step("/read", body='{"v":"new"}')),
    _row("regenerate changes the ID, and twice sends one cookie",
         FIRST, Step("/regenerate", cookie="set", calls=["load", "move"], stored=1),
         Step("/regenerate?times=2", cookie="set", calls=["load", "move"], stored=1), ONE),
    _row("regenerate of a session that is not stored stores nothing", Step("/regenerate", calls=[], stored=0)),
)

_STATUS: Final = (
    _row("a response carries the cookie whatever its status is",
         *(Step(f"/status?code={code}", code, cookie="set", calls=["create"])
           for code in (200, 201, 204, 301, 302, 303, 304, 307, 400, 401, 403, 404, 409, 422)), by_strangers=True),
    _row("an exception that is a response carries the cookie",
         *(Step(f"/status?code={code}&raised=1", code, cookie="set", calls=["create"])
           for code in (302, 401, 403, 404)), by_strangers=True),
    _row("a response carries the cookie whatever its method is",
         Step("/counter", method="HEAD", cookie="set", body="", calls=["create"]),
         *(Step("/counter", method=method, cookie="set", calls=["create"]) for method in ("OPTIONS", "DELETE")),
         by_strangers=True),
)

_FAILURE: Final = (
    _row("a page that does not exist has no part in the session", FIRST, Step("/nowhere", 404, vary=None, stored=1)),
    _row("a change is not stored on a 500",
         Step("/status?code=500", 500, calls=[], stored=0), FIRST, Step("/status?code=503", 503, calls=["load"]), ONE),
    _row("login and regenerate are dropped on a 500",
         FIRST, *(Step(f"/status?code=500&how={how}", 500, calls=["load"]) for how in ("login", "regenerate")), ONE),
    _row("destroy holds on a 500", FIRST, Step("/status?code=500&how=destroy", 500, cookie="cleared", stored=0)),
    _row("nothing is changed when the application fails",
         *(Step(f"/boom?how={how}", 500, vary=ANY, cache=ANY, calls=[], stored=0) for how in ("write", "login")), FIRST,
         *(Step(f"/boom?how={how}", 500, vary=ANY, cache=ANY) for how in ("write", "login", "regenerate")), ONE),
    _row("an ID that was stored before the application fails is sent with the 500",
         *[Step("/regenerate-save-boom", 500, cookie="set", stored=1)] * 2, Step("/read", body='{"n":2}')),
    _row("destroy holds when the application fails",
         FIRST, Step("/boom?how=destroy", 500, cookie="any", vary=ANY, cache=ANY, stored=0), Step("/read", body="{}")),
    _row("what cannot be stored is an error before the response",
         Step("/status?how=unstorable", 500, vary=None, cache="no-store", body="Internal Server Error", stored=0),
         FIRST, Step("/status?how=unstorable", 500, vary=None, cache="no-store", body="Internal Server Error"), ONE),
)

_HEADERS: Final = (
    _row("every use of the session is told by Vary",
         FIRST, *(Step(f"/status?how={how}") for how in (
             "get", "in", "len", "iter", "keys", "id", "handle", "owner", "truth", "fresh", "mark"))),
    _row("asking whether the session was modified or accessed is no use of it",
         *(Step(f"/status?how={how}", vary=None) for how in ("modified", "accessed")), FIRST,
         *(Step(f"/status?how={how}", vary=None) for how in ("modified", "accessed"))),
    _row("a response with the cookie is not for caches, and what is private stays so",
         *(Step(f"/vary?case={case}", cookie="set") for case in ("public", "cdn")),
         Step("/vary?case=private", cookie="set", cache="private, max-age=60"),
         Step("/vary?case=public&how=read", cache="public, max-age=60"), by_strangers=True),
    _row("no use of the session leaves all headers alone",
         FIRST, Step("/vary?case=public&how=none", vary=None, cache="public, max-age=60"),
         Step("/vary?case=accept&how=none", vary="accept-encoding")),
    _row("Vary is merged with the application's own and not repeated",
         Step("/vary?case=accept&how=read", vary="accept-encoding, Cookie"),
         Step("/vary?case=cookie&how=read", vary="cookie"), Step("/vary?case=star&how=read", vary="*")),
    _row("the application's cookies keep their order",
         Step("/vary?case=two", cookie="set", others=["a=1; Path=/", "b=2; Path=/"]),
         Step("/vary?case=two&how=read", others=["a=1; Path=/", "b=2; Path=/"])),
    _row("the application cannot set the session's cookie",
         Step("/vary?case=clash", cookie="set", others=["b=2; Path=/"], stored=1),
         Step("/vary?case=clash&how=read", others=["b=2; Path=/"]), ONE),
)

_STREAM: Final = (
    _row("a stream begins with the cookie, and what it writes is stored at its end",
         Step("/stream", cookie="set", body="chunk 0\nchunk 1\nchunk 2\n", calls=["create", "replace"], stored=1),
         Step("/read", body='{"before":true,"streamed":2}'), Step("/stream", calls=["load"])),
    _row("a stream cannot begin a session",
         Step("/late-first-write", vary=ANY, body="started: refused refused refused ", calls=[], stored=0)),
    _row("a stream can change a session, but not its ID",
         FIRST,
         Step("/late-first-write", vary=ANY, body="started: written refused refused ", calls=["load", "replace"]),
         Step("/read", body='{"n":1,"late":true}')),
    _row("a stream can end a session; the cookie stays behind, dead",
         FIRST, Step("/late-destroy", vary=ANY, body="started destroyed", stored=0),
         Step("/read", body="{}", calls=["load"], stored=0)),
    _row("a stream that saves as it goes is stored each time",
         Step("/events", cookie="set", body="data: 0\n\ndata: 1\n\ndata: 2\n\n", calls=["create", *["replace"] * 3]),
         Step("/read", body='{"begun":true,"event":2}', stored=1)),
    _row("what changes after the response is stored",
         Step("/background", cookie="set", body="ok", calls=["create", "replace"], stored=1),
         Step("/read", body='{"n":1,"later":true}')),
    _row("a file carries the cookie", Step("/file", cookie="set", cache="no-store", stored=1), Step("/file", stored=1)),
)
# fmt: on

SCENARIOS: Final = (*_LIFE, *_STATUS, *_FAILURE, *_HEADERS, *_STREAM)
