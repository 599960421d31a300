"""Requests that a page of another site makes, and what handlers do with their session."""

from tests.kit import Reply, Work, destroy, doing, login, mutate, read, regenerate, reset, write
from tests.views import PlainView

from sessioncore import (
    CrossSiteRequest,
    Session,
    SessionKey,
    chain,
    from_auth_header,
    from_cookie,
    from_form,
    from_header,
    from_query,
)

__all__ = [
    "CART", "EVIL", "NAME", "PAY", "PLACES", "READS", "WRITES", "bind", "change_default", "forged", "nothing",
    "refused", "save", "set_idle",
]  # fmt: skip

NAME = "__Host-session_id"
EVIL, PAY = "https://attacker.example", "https://pay.example"
PLACES = chain(from_cookie(), from_header("X-Sid"), from_auth_header(), from_query("sid"), from_form("sid"))


def forged(sid: str | None = None, *, place: str = "cookie", origin: str = EVIL, site: str = "cross-site") -> PlainView:
    """A POST that a page of another site sends, with an ID in one place."""
    view = PlainView(headers=[("Host", "shop.example"), ("Sec-Fetch-Site", site), ("Origin", origin)], method="POST")
    if sid is not None:
        match place:
            case "cookie":
                view.cookies = [f"{NAME}={sid}".encode()]
            case "header":
                view.headers = [*view.headers, ("X-Sid", sid)]
            case "authorization":
                view.headers = [*view.headers, ("Authorization", f"Bearer {sid}")]
            case "query":
                view.queries = {"sid": sid}
            case _:
                view.fields = {"sid": sid}
    return view


set_idle = doing(lambda session: session.set_idle_timeout(None))
bind = doing(lambda session: session.bind_owner("ada"))
save = Session.save


async def nothing(_: Session) -> None:
    pass


CART = SessionKey("cart", list[int], default_factory=list)


async def change_default(session: Session) -> None:
    session[CART].append(1)


READS: list[Work] = [read, save, Session.reload]
WRITES: list[Work] = [write, mutate, bind, set_idle, login, regenerate, reset, destroy, change_default]


def refused(reply: Reply) -> bool:
    return isinstance(reply.error, CrossSiteRequest)
