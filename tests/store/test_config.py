"""The configuration: every default as documented, every bad value refused with a word on how to mend it."""

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


def test_the_touch_interval_is_a_tenth_of_the_idle_timeout_and_at_most_a_minute_unless_it_is_given() -> None:
    second = timedelta(seconds=1)
    for idle, interval in ((30 * MINUTE, MINUTE), (5 * MINUTE, 30 * second), (timedelta(days=9), MINUTE)):
        assert SessionConfig(idle_timeout=idle, absolute_timeout=None).touch_interval == interval
    changed = dataclasses.replace(SessionConfig(), idle_timeout=50 * second)
    assert changed.touch_interval == 5 * second
    given = dataclasses.replace(changed, touch_interval=20 * second)
    assert dataclasses.replace(given, idle_timeout=2 * 60 * MINUTE).touch_interval == 20 * second


NOT_DURATIONS: list[Any] = [None, 30, 1.5, "30m", timedelta(), timedelta(seconds=-1), timedelta.max, timedelta.min]
NOT_COUNTS: list[Any] = [0, -1, 1.5, "1", True]
NOT_FLAGS: list[Any] = [None, 0, 1, "yes"]
NOT_CALLABLE: list[Any] = [5, "f", []]
NOT_CHOICES: list[Any] = ["", "REFUSE", None, [], 5]
NOT_STORAGES: list[Any] = [None, "redis://", {}, MemoryStorage, object()]
NOT_EXTRACTORS: list[Any] = [None, "cookie:sid", from_cookie, Extractor, []]

BAD: list[tuple[str, Any, str]] = [
    *(("idle_timeout", value, "timedelta") for value in NOT_DURATIONS),
    *(("storage_timeout", value, "timedelta") for value in NOT_DURATIONS),
    *(("watch_interval", value, "timedelta") for value in NOT_DURATIONS),
    ("stale_id_window", timedelta(seconds=9), "watch_interval \\+ storage_timeout, which is 0:00:10"),
    *(("absolute_timeout", value, "absolute_timeout must be") for value in [*NOT_DURATIONS[1:], timedelta(minutes=29)]),
    *(
        ("touch_interval", value, "touch_interval must be")
        for value in [0, 1.5, "1m", timedelta(seconds=-1), timedelta(minutes=30), timedelta.max]
    ),
    *(
        ("stale_id_window", value, "stale_id_window must be")
        for value in [20, "20", timedelta(seconds=-1), timedelta.max]
    ),
    *((name, value, f"{name} must be") for name in ("max_size", "max_sessions_per_owner") for value in NOT_COUNTS),
    ("max_size", None, "max_size must be"),
    *(
        (name, value, f"{name} must be True or False")
        for name in (
            "cookie_secure", "cookie_http_only", "cookie_session_only", "cookie_partitioned", "end_connections"
        )
        for value in NOT_FLAGS
    ),
    ("former_cookies", [("/app", None)], "__Host-"),
    *(("save_on_server_error", value, "save_on_server_error must be") for value in NOT_FLAGS),
    *(
        (name, value, f"{name} must be a function")
        for name in ("skip", "on_error", "id_generator", "clock")
        for value in NOT_CALLABLE
    ),
    *(("on_event", value, "on_event must be a function") for value in [5, "f", [5], (print, None)]),
    ("id_generator", None, "id_generator must be a function"),
    ("clock", None, "clock must be a function"),
    *(("on_owner_limit", value, "'evict_oldest' or 'refuse'") for value in NOT_CHOICES),
    *(("cross_site", value, "'refuse', 'report' or 'allow'") for value in NOT_CHOICES),
    ("trusted_origins", "https://pay.example", "a collection of origins"),
    ("trusted_origins", ["https://pay.example/"], "scheme://host"),
    *(("builtin_subclasses", value, "'refuse' or 'flatten'") for value in NOT_CHOICES),
    *(("key_prefix", value, "key_prefix must be") for value in ["", "a\n", "\x00", "\ud800", "x" * 129, None, b"s:"]),
    *(("storage", value, "MemoryStorage") for value in NOT_STORAGES),
    *(("extractor", value, "from_cookie") for value in NOT_EXTRACTORS),
    ("extractor", Extractor("sid", Source.COOKIE, "sid"), "an Extractor needs"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # wrong on purpose
    ("extractor", Extractor(lambda _: None, "cookie", "sid"), "an Extractor needs"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # wrong on purpose
    ("extractor", Extractor(lambda _: None, Source.OTHER, "x", vary=("a\r\nb",)), "an Extractor needs"),
    ("extractor", Extractor(lambda _: None, Source.HEADER, "X Sid"), "header name"),
    ("extractor", Extractor(lambda _: None, Source.HEADER, 5), "header name"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # wrong on purpose
    ("extractor", Extractor(lambda _: None, Source.COOKIE, "a;b"), "cookie name"),
    ("extractor", chain(from_auth_header(), Extractor(lambda _: None, Source.COOKIE, "")), "cookie name"),
    ("cookie_same_site", "Lax", "'lax', 'strict' or 'none'"),
    ("cookie_path", "shop", "cookie_path must begin"),
    ("cookie_path", None, "cookie_path must begin"),
    ("cookie_path", "/x", "__Host-"),
    ("cookie_domain", "a b", "cookie_domain must be"),
    ("cookie_domain", "example.com", "__Host-"),
    ("cookie_secure", False, r"SessionConfig.development\(\)"),
]  # fmt: skip


@pytest.mark.proves("AT-80", "AT-93", "AT-94")
def test_a_bad_value_of_any_field_is_refused_and_the_error_says_how_to_mend_it() -> None:
    for field, value, advice in BAD:
        with pytest.raises(ConfigError, match=advice):
            SessionConfig(**{field: value})
    assert {field for field, _, _ in BAD} == {field.name for field in dataclasses.fields(SessionConfig) if field.repr}


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


def test_each_config_has_a_storage_of_its_own() -> None:
    assert SessionConfig().storage is not SessionConfig().storage


# -- functions


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
