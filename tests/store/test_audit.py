"""The audit: silent for the defaults, and one finding for each way to fall short of ASVS 5."""

import re
from datetime import timedelta
from typing import Any

import pytest
from key_value.aio.stores.memory import MemoryStore

from sessioncore import (
    ConfigError,
    SessionConfig,
    SessionStore,
    audit,
    chain,
    from_auth_header,
    from_cookie,
    from_header,
    from_query,
)
from sessioncore.storage.keyvalue import KeyValueStorage

DAY = timedelta(days=1)
QUIET: dict[str, Any] = {"max_sessions_per_owner": 5, "on_event": print}


@pytest.mark.proves("ASVS 7.1.1")
def test_the_defaults_give_nothing_above_info() -> None:
    assert {finding.severity for finding in audit(SessionConfig())} == {"info"}
    assert audit(SessionConfig(**QUIET)) == []
    store: Any = SessionStore()
    with pytest.raises(ConfigError, match=r"store\.config"):
        audit(store)


def _named(part: Any) -> str:
    names: list[str] = [*part] if isinstance(part, dict) else [name for name, _ in part]
    return " ".join(names) or "nothing"


WEAK: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({"cookie_secure": False, "extractor": from_cookie("sid")}, [("ASVS 3.3.1", "high"), ("ASVS 3.3.3", "low")]),
    ({"cookie_http_only": False}, [("ASVS 3.3.4", "high")]),
    ({"cookie_same_site": "none"}, [("ASVS 3.3.2", "medium")]),
    ({"cross_site": "allow"}, [("ASVS 3.5.1", "medium")]),
    ({"cross_site": "report"}, [("ASVS 3.5.1", "medium")]),
    ({"cross_site": "allow", "cookie_same_site": "none"}, [("ASVS 3.5.1", "high"), ("ASVS 3.3.2", "medium")]),
    ({"cross_site": "allow", "extractor": from_header("X-Sid")}, []),
    ({"extractor": from_cookie("sid")}, [("ASVS 3.3.3", "low")]),
    ({"extractor": from_cookie("sid"), "cookie_domain": "example.com"}, [("ASVS 3.3.3", "medium")]),
    ({"absolute_timeout": None}, [("ASVS 7.3.2", "high")]),
    ({"absolute_timeout": DAY * 30}, []),
    ({"absolute_timeout": DAY * 31}, [("ASVS 7.3.2", "medium")]),
    ({"idle_timeout": timedelta(hours=1)}, []),
    ({"idle_timeout": timedelta(hours=2)}, [("ASVS 7.3.1", "low")]),
    ({"id_generator": lambda: "a" * 22}, [("ASVS 7.2.3", "medium")]),
    ({"extractor": from_query("sid")}, [("ASVS 14.2.1", "high")]),
    ({"extractor": chain(from_cookie(), from_query("a"), from_query("b"))}, [("ASVS 14.2.1", "high")] * 2),
    ({"extractor": from_auth_header()}, []),
    ({"extractor": from_header("X-Sid"), "cookie_secure": False, "cookie_http_only": False}, []),
    ({"max_sessions_per_owner": None}, [("ASVS 7.1.2", "info")]),
    ({"storage": KeyValueStorage(MemoryStore())}, [("ASVS 7.4.1", "medium")]),
    ({"on_event": None}, [("ASVS 16.3.3", "info")]),
]


@pytest.mark.proves("ASVS 7.1.1")
@pytest.mark.parametrize(("changes", "found"), WEAK, ids=_named)
def test_each_weak_setting_is_one_finding(changes: dict[str, Any], found: list[tuple[str, str]]) -> None:
    findings = audit(SessionConfig(**{**QUIET, **changes}))
    assert [(finding.id, finding.severity) for finding in findings] == found
    assert all(finding.text and finding.fix for finding in findings)


def test_findings_come_most_severe_first_and_name_their_requirement() -> None:
    findings = audit(SessionConfig.development(absolute_timeout=None, idle_timeout=DAY, cookie_http_only=False))
    order = ["high", "medium", "low", "info"]
    ranks = [order.index(finding.severity) for finding in findings]
    assert ranks == sorted(ranks)
    assert len(findings) == 7
    assert all(re.fullmatch(r"ASVS \d+\.\d+\.\d+", finding.id) for finding in findings)
