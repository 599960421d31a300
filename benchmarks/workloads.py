"""What every contender does with a session, and the data in it.

A workload is one path of the benchmark's applications. The handlers here know a
session only as a mapping; each contender defines how to get it, and
what login and logout do.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

Request = Any  # a scope, a framework's request: whatever the contender's `session_of` takes
Handler = Callable[[Request], Awaitable[None]]

# Ten keys, 1 KiB as JSON: an account, a cart, some settings. Only what JSON can carry, for the peers' sake.
SMALL: dict[str, Any] = {
    "user": "7f3c9a52-0c1e-4b8e-9d57-2f1a6f0f7d11",
    "name": "Grace Brewster Hopper",
    "email": "grace.hopper@example.com",
    "roles": ["reader", "author", "editor"],
    "locale": "en-GB",
    "csrf": "kVYvYcGm0pQ4o1lRt8cJt1yq3nY2m8zqkz8s5Wm1a9Q",
    "visits": 17,
    "settings": {"dark": True, "per_page": 50, "beta": False, "columns": ["title", "price", "stock"]},
    "cart": [
        {"sku": f"A-{number:05}", "title": f"Notebook No. {number}", "quantity": number, "cents": 1250 * number}
        for number in range(1, 7)
    ],
    "recent": [f"/shop/category/{number}/item/{number * 37}" for number in range(1, 11)],
}

# A hundred keys of 1 KiB each, with nested values, which give a decoder work.
LARGE: dict[str, Any] = {
    f"part-{number:02}": [
        {"id": number * 100 + row, "name": f"Article {row} of part {number}", "price": row * 1.25, "tags": ["a", "bc"]}
        for row in range(14)
    ]
    for number in range(100)
}
LARGE["part-50"] = "the one that is read"

# path: what it is called in the tables
WORKLOADS = {
    "untouched": "anonymous, untouched",
    "first": "first write",
    "read": "read 1 of 10 keys",
    "update": "read and write",
    "large": "read 1 of 100 keys",
    "login": "login (new ID)",
}

SLOW = 0.05  # seconds between load and write in the races: long enough for every other request to come in between

_owners = itertools.count()
_names = itertools.count()


def next_owner() -> str:
    return f"user-{next(_owners)}"


def read(session: Any) -> None:
    session["user"]


def update(session: Any) -> None:
    session["visits"] = session["visits"] + 1


def first(session: Any) -> None:
    session["user"] = "7f3c9a52-0c1e-4b8e-9d57-2f1a6f0f7d11"


def large(session: Any) -> None:
    session["part-50"]


def fill(session: Any) -> None:
    session.update(SMALL)


def fill_large(session: Any) -> None:
    session.update(LARGE)


def look(session: Any) -> None:
    """Do what a template does to greet a visitor: look for a name, which the session of a stranger does not have."""
    session.get("user")


SYNC: dict[str, Callable[[Any], None]] = {
    "read": read,
    "update": update,
    "first": first,
    "large": large,
    "fill": fill,
    "fill-large": fill_large,
    "look": look,
}


async def slow_set(session: Any) -> None:
    """Set a key of its own, some time after the session was loaded."""
    await asyncio.sleep(SLOW)
    session[f"own-{next(_names)}"] = 1


async def count(session: Any) -> int:
    return sum(1 for name in session if name.startswith("own-"))


def handlers(
    session_of: Callable[[Request], Any] | None = None,
    load: Callable[[Request], Awaitable[Any]] | None = None,
    login: Handler | None = None,
    logout: Handler | None = None,
) -> dict[str, Handler]:
    """Return the handlers by path; `session_of` if the session is there already, `load` if it must be awaited."""

    async def nothing(request: Request) -> None:
        """Do nothing."""

    table: dict[str, Handler] = {"untouched": nothing}
    for name, work in SYNC.items():
        table[name] = _handler(work, session_of, load)

    async def obtain(request: Request) -> Any:
        return await load(request) if load is not None else session_of(request) if session_of is not None else {}

    async def slow(request: Request) -> None:
        await slow_set(await obtain(request))

    async def has(request: Request) -> str:
        session = await obtain(request)
        return f"{sum(1 for name in session if name.startswith('own-'))} {'user' in session}"

    table.update({"slow-set": slow, "has": has, "login": login or nothing, "logout": logout or nothing})
    return table


def bare_handlers() -> dict[str, Handler]:
    """The same paths in the same order, for routers that try one after the other, without any session."""

    async def nothing(request: Request) -> None:
        """Do nothing."""

    return dict.fromkeys(handlers(session_of=dict), nothing)


def _handler(
    work: Callable[[Any], None],
    session_of: Callable[[Request], Any] | None,
    load: Callable[[Request], Awaitable[Any]] | None,
) -> Handler:
    if load is not None:

        async def awaited(request: Request) -> None:
            work(await load(request))

        return awaited
    assert session_of is not None

    async def plain(request: Request) -> None:
        work(session_of(request))

    return plain
