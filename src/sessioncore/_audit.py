"""Checks a configuration against OWASP ASVS 5."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Literal

from msgspec import Struct

from sessioncore._config import SessionConfig, listeners
from sessioncore._errors import ConfigError
from sessioncore.http._extractors import Carrier, Source, carrier_of, flatten, keys_of
from sessioncore.http._ids import new_id

__all__ = ["Finding", "audit"]


class Finding(Struct, frozen=True):
    """One requirement that a configuration does not meet: `id` names the requirement, `fix` says what to change."""

    id: str
    severity: Literal["info", "low", "medium", "high"]
    text: str
    fix: str


def audit(config: SessionConfig) -> list[Finding]:
    """Return the findings for `config`, most severe first; the defaults have none above `info`.

    Raises:
        ConfigError: `config` is not a SessionConfig.
    """
    if not isinstance(config, SessionConfig):  # pyright: ignore[reportUnnecessaryIsInstance]  # not every caller is type-checked
        raise ConfigError("audit() takes a SessionConfig, such as store.config")
    findings = [*_cookie(config), *_timeouts(config), *_tokens(config), *_operations(config)]
    order = ("high", "medium", "low", "info")
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def _cookie(config: SessionConfig) -> Iterator[Finding]:
    names = keys_of(config.extractor, Source.COOKIE)
    if not names:
        return
    if not config.cookie_secure:
        text, fix = "the cookie is sent over plain http", "serve TLS and set cookie_secure=True"
        yield Finding("ASVS 3.3.1", "high", text, fix)
    if not config.cookie_http_only:
        yield Finding("ASVS 3.3.4", "high", "scripts can read the cookie", "set cookie_http_only=True")
    if config.cookie_same_site == "none":
        text = "requests from other sites carry the cookie"
        fix = "use 'lax' or 'strict'; cross_site='refuse' protects unsafe methods and WebSockets, but no GET"
        yield Finding("ASVS 3.3.2", "medium", text, fix)
    if config.cross_site != "refuse":
        severity: Literal["medium", "high"] = "high" if config.cookie_same_site == "none" else "medium"
        text = "requests that other sites make can change the session"
        fix = "set cross_site='refuse', and add your own other sites to trusted_origins"
        yield Finding("ASVS 3.5.1", severity, text, fix)
    for name in names:
        if not name.startswith("__Host-"):
            text = f"sibling hosts can inject the cookie {name!r}"
            fix = "name it __Host-..., with cookie_path='/' and no cookie_domain"
            yield Finding("ASVS 3.3.3", "low" if config.cookie_domain is None else "medium", text, fix)


def _timeouts(config: SessionConfig) -> Iterator[Finding]:
    if config.absolute_timeout is None:
        text, fix = "a session that is used never ends", "set absolute_timeout, for example to 24 hours"
        yield Finding("ASVS 7.3.2", "high", text, fix)
    elif config.absolute_timeout > timedelta(days=30):
        text = "the absolute timeout is longer than 30 days (NIST SP 800-63B-4, AAL1)"
        fix = "shorten absolute_timeout and give trusted devices set_absolute_timeout(), or document it (ASVS 7.1.1)"
        yield Finding("ASVS 7.3.2", "medium", text, fix)
    if config.idle_timeout > timedelta(hours=1):
        text = "the idle timeout is longer than an hour (NIST SP 800-63B-4, AAL2)"
        fix = "shorten idle_timeout and give trusted devices set_idle_timeout()"
        yield Finding("ASVS 7.3.1", "low", text, fix)


def _tokens(config: SessionConfig) -> Iterator[Finding]:
    if config.id_generator is not new_id:
        text = "IDs come from a custom id_generator"
        fix = "make sure that it returns 128 random bits from the secrets module, or leave id_generator out"
        yield Finding("ASVS 7.2.3", "medium", text, fix)
    for extractor in flatten(config.extractor):
        if carrier_of(extractor) is Carrier.URL_OR_FORM:
            text = f"an ID is accepted from a URL or form field ({extractor.key!r})"
            fix = "use a cookie or a header: URLs and forms end up in logs and histories"
            yield Finding("ASVS 14.2.1", "high", text, fix)


def _operations(config: SessionConfig) -> Iterator[Finding]:
    if config.max_sessions_per_owner is None:
        text = "an owner may have any number of sessions"
        fix = "set max_sessions_per_owner, or document that there is no limit"
        yield Finding("ASVS 7.1.2", "info", text, fix)
    if not getattr(config.storage, "compare_and_set", True):  # as KeyValueStorage declares
        text = "a write in another process may bring back a session that ends at that moment"
        fix = "use Redis, PostgreSQL or SQLite, unless there is one process only"
        yield Finding("ASVS 7.4.1", "medium", text, fix)
    if not listeners(config):
        text = "unknown, ambiguous and malformed IDs are not logged"
        yield Finding("ASVS 16.3.3", "info", text, "pass on_event= and log the events")
