"""Requests of all kinds, and how each is judged: as the site's own, as another site's, or as a trusted site's."""

from msgspec import Struct

__all__ = ["CASES", "HOST", "Case"]

HOST = "shop.example"


class Case(Struct, frozen=True):
    """A request, and how it is judged if https://pay.example and capacitor://localhost are trusted."""

    method: str
    headers: tuple[tuple[str, str], ...]
    judged: str  # own, other, withheld
    scheme: str = "https"

    def __str__(self) -> str:
        given = " ".join(f"{name}={value}" for name, value in self.headers if name != "Host")
        return f"{self.method} {self.scheme} {given or 'bare'}"


def case(method: str, judged: str, site: str | None = None, origin: str | None = None, host: str = HOST) -> Case:
    headers = [("Host", host)]
    headers += [] if site is None else [("Sec-Fetch-Site", site)]
    headers += [] if origin is None else [("Origin", origin)]
    return Case(method, tuple(headers), judged)


OURS, OTHERS = "https://shop.example", "https://attacker.example"

CASES = [
    # the method decides whether a request is judged at all
    *(case(method, "own", "cross-site", OTHERS) for method in ("GET", "HEAD", "OPTIONS", "TRACE", "QUERY")),
    *(case(method, "other", "cross-site", OTHERS) for method in ("POST", "PUT", "PATCH", "DELETE", "LINK", "get")),
    *(case(method, "own", "same-origin", OURS) for method in ("POST", "PUT", "PATCH", "DELETE")),
    # Sec-Fetch-Site is believed, whatever Origin says
    case("POST", "own", "none"),
    case("POST", "own", "none", "null"),
    case("POST", "own", "same-origin", OTHERS),
    case("POST", "own", " same-origin "),
    case("POST", "other", "same-site", "https://blog.shop.example"),
    case("POST", "other", "same-site", "https://shop.example:5173"),
    case("POST", "other", "cross-site"),
    case("POST", "other", "cross-site", OURS),
    case("POST", "other", "cross-site", "null"),
    case("POST", "other", "Same-Origin", OURS),
    case("POST", "other", "", OURS),
    case("POST", "other", "same-origin, cross-site", OURS),
    case("POST", "other", "new-word", OURS),
    # without Sec-Fetch-Site, Origin and Host are compared
    case("POST", "own"),
    case("POST", "own", None, OURS),
    case("POST", "own", None, "http://shop.example"),
    case("POST", "own", None, "HTTPS://Shop.Example"),
    case("POST", "own", None, OURS, "SHOP.example"),
    case("POST", "own", None, "https://shop.example:443"),
    case("POST", "own", None, OURS, "shop.example:443"),
    case("POST", "own", None, "http://shop.example", "shop.example:80"),
    case("POST", "own", None, "https://shop.example:8443", "shop.example:8443"),
    case("POST", "own", None, "https://[2001:db8::1]", "[2001:DB8::1]"),
    case("POST", "own", None, "http://127.0.0.1:8000", "127.0.0.1:8000"),
    case("POST", "other", None, OTHERS),
    case("POST", "other", None, "null"),
    case("POST", "other", None, ""),
    case("POST", "other", None, "https://shop.example:8443"),
    case("POST", "other", None, "http://shop.example", "shop.example:443"),
    case("POST", "other", None, "https://shop.example", "shop.example:80"),
    case("POST", "other", None, "https://shop.example.attacker.example"),
    case("POST", "other", None, "https://www.shop.example"),
    case("POST", "other", None, "https://shop.example."),
    case("POST", "other", None, "https://shop.example/"),
    case("POST", "other", None, "https://shop.example@attacker.example"),
    case("POST", "other", None, "https://shop.example#"),
    case("POST", "other", None, "https://shop.example https://attacker.example"),
    case("POST", "other", None, "shop.example"),
    case("POST", "other", None, "//shop.example"),
    case("POST", "other", None, "file://"),
    case("POST", "other", None, "chrome-extension://shop.example"),
    case("POST", "other", None, "https://shop.example:port"),
    case("POST", "other", None, OURS, "shop.example:port"),
    case("POST", "other", None, OURS, "localhost:8000"),
    # a trusted site's request is not refused, but the browser may have withheld the cookie
    case("POST", "withheld", "cross-site", "https://pay.example"),
    case("POST", "withheld", "cross-site", "https://PAY.example:443"),
    case("POST", "withheld", None, "https://pay.example"),
    case("POST", "withheld", "cross-site", "capacitor://localhost"),
    case("POST", "own", "same-site", "https://pay.example"),
    case("POST", "other", "cross-site", "http://pay.example"),
    case("POST", "other", "cross-site", "https://pay.example:8443"),
    case("POST", "other", "cross-site", "https://www.pay.example"),
    # no browser sends two fields of one name
    Case("POST", (("Host", HOST), ("Origin", OURS), ("Origin", OTHERS)), "other"),
    Case("POST", (("Host", HOST), ("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")), "other"),
    # handshakes are judged, though they are GETs
    Case("GET", (("Host", HOST), ("Origin", OURS)), "own", "wss"),
    Case("GET", (("Host", HOST),), "own", "wss"),
    Case("GET", (("Host", HOST), ("Origin", OTHERS)), "other", "wss"),
    Case("GET", (("Host", HOST), ("Origin", OTHERS)), "other", "ws"),
    Case("GET", (("Host", HOST), ("Origin", "null")), "other", "wss"),
    Case("GET", (("Host", HOST), ("Sec-Fetch-Site", "cross-site")), "other", "wss"),
    Case("GET", (("Host", HOST), ("Origin", "https://pay.example")), "withheld", "wss"),
    Case("GET", (("Host", HOST), ("Origin", OTHERS), ("Upgrade", "WebSocket")), "other"),
    Case("GET", (("Host", HOST), ("Origin", OTHERS), ("Upgrade", "h2c, websocket")), "other"),
    Case("GET", (("Host", HOST), ("Origin", OTHERS), ("Upgrade", "h2c")), "own"),
]
