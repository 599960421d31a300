"""The configuration: every default as documented, every bad value refused with an error that says how to fix it."""

import dataclasses
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from sessioncore import (
    ConfigError,
    Extractor,
    MemoryStorage,
    SessionConfig,
    Source,
    Storage,
    chain,
    from_auth_header,
    from_cookie,
    from_header,
    from_lookup,
)
from sessioncore._config import id_generator
from sessioncore.http._ids import is_id

MINUTE = timedelta(minutes=1)


@pytest.mark.proves("ASVS 7.3.1", "ASVS 7.3.2")
def test_the_defaults_are_those_of_production() -> None:
    config = SessionConfig()
    shown = {field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.repr}
    for name in ("storage", "extractor", "id_generator", "clock"):
        del shown[name]
    assert shown == {
        "idle_timeout": timedelta(minutes=30), "absolute_timeout": timedelta(hours=24),
        "touch_interval": timedelta(seconds=60), "cookie_secure": True, "cookie_http_only": True,
        "cookie_same_site": "lax", "cookie_path": "/", "cookie_domain": None, "cookie_session_only": False,
        "cookie_partitioned": False, "former_cookies": (), "key_prefix": "session:", "max_size": 65536,
        "storage_timeout": timedelta(seconds=5), "max_sessions_per_owner": None, "on_owner_limit": "evict_oldest",
        "skip": None, "on_error": None, "cross_site": "refuse", "trusted_origins": (), "stale_id_window": None,
        "end_connections": True, "watch_interval": timedelta(seconds=5), "builtin_subclasses": "refuse",
        "on_event": None, "save_on_server_error": False,
    }  # fmt: skip
    assert (config.extractor.source, config.extractor.key) == (Source.COOKIE, "__Host-session_id")
    assert isinstance(config.storage, MemoryStorage)
    assert config.storage is not SessionConfig().storage
    assert config.clock is time.time


def test_development_is_the_same_for_plain_http() -> None:
    config, production = SessionConfig.development(max_size=100), SessionConfig(max_size=100)
    assert (config.extractor.key, config.cookie_secure, config.max_size) == ("session_id", False, 100)
    for field in dataclasses.fields(config):
        if field.name not in {"extractor", "cookie_secure", "storage"}:
            assert getattr(config, field.name) == getattr(production, field.name)
    assert SessionConfig.development(extractor=from_header("X-Sid")).extractor.key == "X-Sid"


def test_a_config_cannot_be_changed_and_takes_keywords_only() -> None:
    config = SessionConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.max_size = 5  # type: ignore[misc]  # that is what the test is about
    with pytest.raises(TypeError):
        SessionConfig(MemoryStorage())  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # as above
    with pytest.raises(TypeError, match="idle_timeuot"):
        SessionConfig.development(idle_timeuot=MINUTE)
    assert hash(SessionConfig(trusted_origins=["https://pay.example"], on_event=[print]))  # lists have no hash


def test_the_touch_interval_is_a_tenth_of_the_idle_timeout_and_at_most_a_minute_unless_it_is_given() -> None:
    second = timedelta(seconds=1)
    for idle, interval in ((30 * MINUTE, MINUTE), (5 * MINUTE, 30 * second), (timedelta(days=9), MINUTE)):
        assert SessionConfig(idle_timeout=idle, absolute_timeout=None).touch_interval == interval
    changed = dataclasses.replace(SessionConfig(), idle_timeout=50 * second)
    assert changed.touch_interval == 5 * second
    given = dataclasses.replace(changed, touch_interval=20 * second)
    assert dataclasses.replace(given, idle_timeout=2 * 60 * MINUTE).touch_interval == 20 * second


# Comparing it fails, as with an array of numpy.
VAGUE: Any = type("Vague", (), {"__eq__": None, "__hash__": None})()
DURATIONS: list[Any] = [30, 1.5, "30m", timedelta(), timedelta(seconds=-1), timedelta.max, timedelta.min]
FLAGS = "cookie_secure cookie_http_only cookie_session_only cookie_partitioned end_connections"
EXTRACTOR: Any = Extractor  # its parts are wrong on purpose

# Names of fields, values that none of them accepts, and what the error says.
BAD: list[tuple[str, list[Any], str]] = [
    ("idle_timeout storage_timeout watch_interval", [None, *DURATIONS], "timedelta"),
    ("stale_id_window", [timedelta(seconds=9)], "watch_interval \\+ storage_timeout, which is 0:00:10"),
    (
        "stale_id_window",
        [VAGUE, 0, 20, "20", timedelta(seconds=-1), timedelta.max],
        r"{} must be .* or timedelta\(0\)",
    ),
    ("absolute_timeout", [*DURATIONS, timedelta(minutes=29)], "{} must be .* or None for no limit"),
    ("touch_interval", [0, 1.5, "1m", timedelta(seconds=-1), timedelta(minutes=30), timedelta.max], "{} must be"),
    ("max_size max_sessions_per_owner", [0, -1, 1.5, "1", True], "{} must be"),
    ("max_size", [None], "{} must be"),
    (FLAGS, [None, 0, 1, "yes"], "{} must be True or False"),
    ("save_on_server_error", [None, 0, 1, "yes"], "{} must be"),
    ("skip on_error id_generator clock", [5, "f", []], "{} must be a function"),
    ("on_event", [5, "f", [5], (print, None)], "{} must be a function"),
    ("id_generator clock", [None], "{} must be a function"),
    ("clock", [time.time_ns, lambda: float("nan"), lambda: None, lambda: -1.0], "clock must return seconds"),
    ("clock", [time.localtime().__getitem__], "clock must be a function without arguments"),
    ("on_owner_limit", ["", "REFUSE", None, [], 5, VAGUE], "'evict_oldest' or 'refuse'"),
    ("cross_site", ["", "REFUSE", None, [], 5, VAGUE], "'refuse', 'report' or 'allow'"),
    ("builtin_subclasses", ["", "REFUSE", None, [], 5, VAGUE], "'refuse' or 'flatten'"),
    ("trusted_origins", ["https://pay.example"], "a collection of origins"),
    ("trusted_origins", [["https://pay.example/"]], "scheme://host"),
    ("key_prefix", ["", "a\n", "\x00", "\ud800", "x" * 129, None, b"s:"], "{} must be"),
    ("storage", [None, "redis://", {}, MemoryStorage, object()], "storage_from_url"),
    ("extractor", [None, "cookie:sid", from_cookie, Extractor, []], "from_cookie"),
    ("extractor", [EXTRACTOR("sid", Source.COOKIE, "sid"), EXTRACTOR(print, "cookie", "sid")], "an Extractor needs"),
    (
        "extractor",
        [EXTRACTOR(print, Source.OTHER, "x", vary=vary) for vary in (["a\r\n"], "X", None, 5, [5])],
        "an Extractor needs",
    ),
    ("extractor", [EXTRACTOR(print, Source.HEADER, name) for name in ("X Sid", 5)], "header name"),
    ("extractor", [EXTRACTOR(print, Source.HEADER, "Set-Cookie")], "a meaning of its own.*'X-Session-ID'"),
    ("extractor", [EXTRACTOR(print, Source.COOKIE, "a;b")], "cookie name"),
    ("extractor", [chain(from_auth_header(), EXTRACTOR(print, Source.COOKIE, ""))], "cookie name"),
    ("former_cookies", [[("/app", None)]], "__Host-"),
    ("cookie_same_site", ["Lax", None, [], True, VAGUE], "'lax', 'strict' or 'none'"),
    ("cookie_path", ["shop", None, f"/{'x' * 1024}", "/a?", "/#b"], "cookie_path must begin with '/', be no longer"),
    ("cookie_path", ["/x"], "__Host-"),
    ("cookie_domain", ["a b"], "cookie_domain must be"),
    ("cookie_domain", ["example.com"], "__Host-"),
    ("cookie_secure", [False], r"SessionConfig.development\(\)"),
]


@pytest.mark.proves("AT-80", "AT-93", "AT-94")
def test_a_bad_value_of_any_field_is_refused_and_the_error_says_how_to_mend_it() -> None:
    cases = [(field, value, advice) for fields, bad, advice in BAD for field in fields.split() for value in bad]
    for field, value, advice in cases:
        with pytest.raises(ConfigError, match=advice.format(field)):
            SessionConfig(**{field: value})
    for field in ("cookie_path", "cookie_domain", "cookie_same_site"):  # even without a cookie
        with pytest.raises(ConfigError, match=field):
            SessionConfig(extractor=from_header("X-Sid"), **dict[str, Any]({field: 5}))
    assert {field for field, _, _ in cases} == {field.name for field in dataclasses.fields(SessionConfig) if field.repr}


def test_what_browsers_drop_without_secure_needs_secure() -> None:
    for changes in ({"cookie_same_site": "none"}, {"cookie_partitioned": True}):
        given: dict[str, Any] = dict(changes)
        SessionConfig(**given)
        with pytest.raises(ConfigError, match="cookie_secure=True"):
            SessionConfig.development(**given)


def test_a_storage_that_lacks_one_method_is_refused() -> None:
    for method in [name for name in vars(Storage) if not name.startswith("_")]:
        lacking = type("Lacking", (MemoryStorage,), {method: None})()
        with pytest.raises(ConfigError, match=r"sessioncore\.Storage"):
            SessionConfig(storage=lacking)


def test_a_lookup_is_a_chain_of_the_places_that_it_names() -> None:
    one, several = from_lookup("header:X-Sid"), from_lookup("cookie:sid, header:X-Sid,query:s,form:f,param:p")
    assert (one.source, one.key) == (Source.HEADER, "X-Sid")
    assert [part.source for part in several.parts] == [Source.COOKIE, Source.HEADER, *[Source.OTHER] * 3]
    assert [part.key for part in several.parts] == ["sid", "X-Sid", "s", "f", "p"]


def always(made: Any) -> Callable[[], Any]:
    return lambda: made


def test_a_generator_may_make_22_to_256_characters_of_the_alphabet_and_nothing_else() -> None:
    for made in ("a" * 22, "A-_9" * 64, "0" * 43):
        assert id_generator(SessionConfig(id_generator=always(made)))() == made
    wrong: list[Any] = ["", "a" * 21, "a" * 257, "a" * 42 + "=", "é" * 43, "a b" * 20, None, 555, b"a" * 43]
    for made in wrong:
        with pytest.raises(ConfigError, match="22 to 256 characters") as caught:
            id_generator(SessionConfig(id_generator=always(made)))()
        assert not made or repr(made) not in str(caught.value)
    no_randomness: Callable[[], Any] = {}.popitem
    with pytest.raises(KeyError):
        id_generator(SessionConfig(id_generator=no_randomness))()
    generate = id_generator(SessionConfig())
    assert is_id(generate())
    assert generate() != generate()


def test_an_async_function_that_nobody_would_await_is_refused() -> None:
    async def later(*_: object) -> None:
        raise AssertionError

    class Later:
        async def __call__(self, *_: object) -> None:
            raise AssertionError

    functions: list[Any] = [later, Later()]
    for name, function in product(["skip", "on_error", "on_event", "id_generator", "clock"], functions):
        with pytest.raises(ConfigError, match=f"{name} must be a function that is not async"):
            SessionConfig(**{name: function})
