"""Holds a configuration against OWASP ASVS 5: what a reviewer would ask, answered beforehand."""

from datetime import timedelta
from typing import Literal

from msgspec import Struct

from sessioncore._config import SessionConfig
from sessioncore._extractors import Source, places
from sessioncore._ids import new_id

__all__ = ["Finding", "audit"]


class Finding(Struct, frozen=True):
    """One point at which a configuration falls short: `id` names the requirement, `mend` the way out."""

    id: str
    severity: Literal["info", "low", "medium", "high"]
    text: str
    mend: str


def audit(config: SessionConfig) -> list[Finding]:
    """Return what ASVS 5 would object to, most severe first; for the defaults nothing above `info`."""
    findings = [*_cookie(config), *_timeouts(config), *_tokens(config), *_operations(config)]
    order = ("high", "medium", "low", "info")
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def _cookie(config: SessionConfig) -> list[Finding]:
    names = [place.key for place in places(config.extractor) if place.source is Source.COOKIE]
    if not names:
        return []
    found: list[Finding] = []
    if not config.cookie_secure:
        found.append(
            Finding(
                "ASVS 3.3.1",
                "high",
                "the cookie is sent over plain http",
                "serve TLS and set cookie_secure=True",
            )
        )
    if not config.cookie_http_only:
        found.append(Finding("ASVS 3.3.4", "high", "scripts can read the cookie", "set cookie_http_only=True"))
    if config.cookie_same_site == "none":
        found.append(
            Finding(
                "ASVS 3.3.2",
                "medium",
                "other sites' requests carry the cookie",
                "use 'lax' or 'strict', or defend every state-changing route against CSRF",
            )
        )
    for name in names:
        if name.startswith("__Host-"):
            continue
        found.append(
            Finding(
                "ASVS 3.3.3",
                "low" if config.cookie_domain is None else "medium",
                f"sibling hosts can plant the cookie {name!r}",
                "name it __Host-..., with cookie_path='/' and no cookie_domain",
            )
        )
    return found


def _timeouts(config: SessionConfig) -> list[Finding]:
    found: list[Finding] = []
    if config.absolute_timeout is None:
        found.append(
            Finding(
                "ASVS 7.3.2",
                "high",
                "a session that is used never ends",
                "set absolute_timeout, such as 24 hours",
            )
        )
    elif config.absolute_timeout > timedelta(days=30):
        found.append(
            Finding(
                "ASVS 7.3.2",
                "medium",
                "the absolute timeout is longer than 30 days (NIST SP 800-63B-4, AAL1)",
                "shorten absolute_timeout, or document why not (ASVS 7.1.1)",
            )
        )
    if config.idle_timeout > timedelta(hours=1):
        found.append(
            Finding(
                "ASVS 7.3.1",
                "low",
                "the idle timeout is longer than an hour (NIST SP 800-63B-4, AAL2)",
                "shorten idle_timeout and give trusted devices set_idle_timeout()",
            )
        )
    return found


def _tokens(config: SessionConfig) -> list[Finding]:
    found: list[Finding] = []
    if config.id_generator is not new_id:
        found.append(
            Finding(
                "ASVS 7.2.3",
                "medium",
                "IDs come from a generator of your own",
                "make sure of 128 random bits from the secrets module, or leave id_generator out",
            )
        )
    for place in places(config.extractor):
        if place.source is Source.OTHER and not place.vary:
            found.append(
                Finding(
                    "ASVS 14.2.1",
                    "high",
                    f"an ID is accepted from a URL or form field ({place.key!r})",
                    "use a cookie or a header: what stands in a URL ends up in logs and histories",
                )
            )
    return found


def _operations(config: SessionConfig) -> list[Finding]:
    found: list[Finding] = []
    if config.max_sessions_per_owner is None:
        found.append(
            Finding(
                "ASVS 7.1.2",
                "info",
                "an owner may have any number of sessions",
                "set max_sessions_per_owner, or document that there is no limit",
            )
        )
    if config.on_event is None:
        found.append(
            Finding(
                "ASVS 16.3.3",
                "info",
                "nobody hears of unknown, ambiguous and malformed IDs",
                "pass on_event= and log the events",
            )
        )
    return found
