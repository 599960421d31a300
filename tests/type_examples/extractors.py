"""Where the ID comes from: the ready-made places, one of one's own, and a chain of them."""

from sessioncore import (
    Extractor,
    RequestView,
    SessionConfig,
    SessionStore,
    Source,
    chain,
    from_auth_header,
    from_cookie,
    from_header,
    from_lookup,
)


def tenant_token(request: RequestView) -> str | None:
    values = request.header("X-Tenant-Session")
    return values[0].removeprefix("t1.") if len(values) == 1 else None


async def form_token(request: RequestView) -> str | None:
    return None if request.method == "GET" else await request.form("token")


by_tenant = Extractor(tenant_token, Source.OTHER, "X-Tenant-Session", vary=("X-Tenant-Session",))
by_form = Extractor(form_token, Source.OTHER, "token")

store = SessionStore(
    SessionConfig(extractor=chain(from_cookie(), from_header("X-Session"), from_auth_header(), by_tenant, by_form))
)
same_as_fiber = SessionStore(SessionConfig(extractor=from_lookup("cookie:sid,header:X-Sid"), cookie_secure=False))
