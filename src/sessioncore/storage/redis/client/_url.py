"""Creates redis-py clients from URLs, such as those in environment variables."""

import re
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from sessioncore._errors import ConfigError
from sessioncore.storage._url_parts import options_of, port_of
from sessioncore.storage.redis._errors import CLIENT_ERRORS

__all__ = ["client_from"]

_PORT, _SENTINEL_PORT = 6379, 26379
_DATABASE = re.compile("[0-9]*")


def client_from(url: str, options: dict[str, Any]) -> Any:
    """Return a client for `url`.

    Raises:
        ConfigError: the URL or an option cannot work.
    """
    if type(cast("object", url)) is not str:
        raise ConfigError(_HINT)
    redis = cast("Any", Redis)  # its annotations stop at **kwargs
    options = {"protocol": 3} | options  # the default of redis-py 6 is 2, which has no pushes; the URL comes first
    scheme = url.partition("://")[0]
    try:
        _check(url)
        if scheme in {"redis", "rediss", "unix"}:
            return _tried(redis.from_url(url, **options))
        if scheme in {"redis+cluster", "rediss+cluster"}:
            return _cluster_of(url.replace("+cluster", "", 1), options)
        if scheme in {"redis+sentinel", "rediss+sentinel"}:
            return _tried(_through_sentinel(url, options))
    except (ValueError, TypeError, *CLIENT_ERRORS):
        # Their texts may quote parts of the URL, and with them the password.
        raise ConfigError(_HINT) from None
    raise ConfigError(_HINT)


_HINT = (
    "not a Redis URL or option: write redis://user:password@host:6379/0 (rediss:// for TLS), unix:///path?db=0, "
    "redis+cluster://host:port,host:port or redis+sentinel://host:port,host:port/service/0; "
    "percent-encode special letters in the password; options are those of the redis-py client"
)


def _check(url: str) -> None:
    """Refuse what redis-py would ignore, or take for something else.

    Raises:
        ValueError: the URL has such a part; the text names it.
    """
    parts = urlsplit(url)
    if parts.fragment:
        raise ValueError("a # in the password or the path")
    options = options_of(parts.query)
    named = dict(options)
    if len(named) < len(options):
        raise ValueError("an option that is given twice")
    login, _, addresses = parts.netloc.rpartition("@")
    if parts.scheme == "unix":
        if addresses or not parts.path:
            raise ValueError("no path with three slashes")
        return
    db = parts.path[1:]
    if parts.scheme.endswith("+sentinel"):
        _, _, db = db.partition("/")  # behind the service
    if not (_DATABASE.fullmatch(db) and _DATABASE.fullmatch(named.get("db", ""))):
        raise ValueError("no number, for which redis-py takes database 0")
    for address in addresses.split(",") if addresses else ():
        port_of(address, _PORT)
        (urlsplit(f"//{address}").hostname or "").encode("idna")  # as connecting does; a UnicodeError is a ValueError
    said = {"host": addresses, "port": addresses, "db": db, "username": login, "password": login}
    if any(said.get(name) for name in named):
        raise ValueError("an option that the URL has twice")


def _tried(client: Any) -> Any:
    # redis-py checks most options when it makes a connection, which does not open a socket yet.
    client.connection_pool.make_connection()
    return client


def _cluster_of(url: str, options: dict[str, Any]) -> Any:
    parts = urlsplit(url)
    login, at, addresses = parts.netloc.rpartition("@")
    first, *others = addresses.split(",")
    url = parts._replace(netloc=f"{login}{at}{first}").geturl()
    host, _ = _address_of(first)

    def with_host(address: tuple[str | None, int]) -> tuple[str | None, int]:
        # Nodes may not know by which name clients reach them: then it is the host of the URL, with another port.
        return (address[0] if address[0] not in {None, "", "?"} else host), address[1]

    wanted: dict[str, Any] = {"startup_nodes": [ClusterNode(*_address_of(address, _PORT)) for address in others]}
    if {_address_of(address)[0] for address in others} <= {host}:
        wanted["address_remap"] = with_host
    return cast("Any", RedisCluster).from_url(url, **wanted | options)


def _through_sentinel(url: str, options: dict[str, Any]) -> Any:
    parts = urlsplit(url)
    login, _, addresses = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    service, _, db = parts.path[1:].partition("/")
    if not service:
        raise ValueError("no service")
    wanted = options | parse_url(f"redis://?{parts.query}")
    if db:
        wanted["db"] = int(db)
    if login:
        wanted |= {"username": unquote(user) or None, "password": unquote(password) or None}
    if parts.scheme.startswith("rediss"):
        wanted["ssl"] = True
    to_sentinels: dict[str, Any] = {"retry": Retry(NoBackoff(), 1)}
    to_sentinels |= {name: value for name, value in wanted.items() if name.startswith(("ssl", "socket_"))}
    for name in ("username", "password"):
        if f"sentinel_{name}" in wanted:
            to_sentinels[name] = wanted.pop(f"sentinel_{name}")
    sentinel_class: Any = Sentinel
    sentinel = sentinel_class([*map(_address_of, addresses.split(","))], sentinel_kwargs=to_sentinels)
    return sentinel.master_for(service, **wanted)


def _address_of(text: str, port: int = _SENTINEL_PORT) -> tuple[str, int]:
    host = urlsplit(f"//{text}").hostname
    if not host:
        raise ValueError("no host")
    return host, port_of(text, port)
