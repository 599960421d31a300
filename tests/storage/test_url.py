"""A URL names a storage; a bad one is explained, and never shown."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import SSLConnection

from sessioncore._errors import ConfigError
from sessioncore.storage import MemoryStorage, SQLiteStorage
from sessioncore.storage._url import storage_from_url
from sessioncore.storage.postgres import PostgresStorage
from sessioncore.storage.redis import RedisStorage
from sessioncore.storage.redis.client._url import client_from


def test_memory() -> None:
    assert isinstance(storage_from_url("memory://"), MemoryStorage)
    assert isinstance(storage_from_url("  memory://\n", max_sessions=5), MemoryStorage)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["sessions.db", "a b#c?d.db", "50%25.db"])
async def test_sqlite_by_relative_or_absolute_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / name.replace("%25", "%")
    for url in (f"sqlite:///{name}", f"sqlite:///{tmp_path}/{name}"):
        storage = storage_from_url(url)
        assert isinstance(storage, SQLiteStorage)
        await storage.open()
        await storage.create(url, b"x", 100)
        await storage.aclose()
        assert file.exists()
        file.unlink()


REDIS = (
    "redis://", "redis://127.0.0.1:6379/1", "REDIS://user:p%40ss@127.0.0.1", "rediss://127.0.0.1",
    "unix:///run/redis.sock?db=1", "redis+sentinel://127.0.0.1:26379,127.0.0.1:26380/mymaster",
    "redis+sentinel://user:pass@127.0.0.1/mymaster/2", "redis+cluster://127.0.0.1:7000",
    "redis+cluster://user:p%40ss@one:7000,two/0?socket_timeout=2", "redis://:p%40ss@127.0.0.1/?db=2",
    "redis+sentinel://127.0.0.1/mymaster?db=2", "unix://user:pass@/run/redis.sock",
)  # fmt: skip
POSTGRES = (
    "postgresql://", "postgres://127.0.0.1", "postgresql://user:p%40ss%3A%2F@127.0.0.1:5432/db?sslmode=require",
    "PostgreSQL://user@[::1]:5432/db", "postgresql://user@one:5432,two:5433/db",
    "postgresql:///db?host=/run/postgresql",
)  # fmt: skip


@pytest.mark.parametrize("url", [*REDIS, *POSTGRES])
def test_redis_and_postgres_in_all_their_forms(url: str) -> None:
    assert isinstance(storage_from_url(url), RedisStorage if url in REDIS else PostgresStorage)


def test_options_go_to_the_storage() -> None:
    storage = storage_from_url("postgresql://127.0.0.1/db", table="web.sessions", create_table=False)
    assert repr(storage) == "<PostgresStorage web.sessions>"
    with pytest.raises(ConfigError, match=r"schema\.name"):
        storage_from_url("postgresql://127.0.0.1/db", table="no table")
    url = "rediss+sentinel://u:p@host/main/2?socket_timeout=2&ssl_ca_certs=/ca.pem&sentinel_username=s&sentinel_password=w"
    pool = client_from(url, {}).connection_pool
    asked = pool.sentinel_manager.sentinels[0].connection_pool
    assert issubclass(asked.connection_class, SSLConnection)
    to_sentinel = {"port": 26379, "username": "s", "password": "w", "ssl_ca_certs": "/ca.pem"}
    assert to_sentinel.items() <= asked.connection_kwargs.items()
    for_master = {"username": "u", "db": 2, "socket_timeout": 2.0, "ssl_ca_certs": "/ca.pem"}
    assert for_master.items() <= pool.connection_kwargs.items()
    for url in ("memory://", "sqlite:///x.db", "redis://host", "postgresql://host", "keyvalue+redis://host"):
        with pytest.raises((TypeError, ConfigError), match=r"or option|argument 'colour'"):
            storage_from_url(url, colour="red")


REPLACED_BY_REDIS_PY = (
    "host:0", "host:", "host..name", "u:1#hunter2@host", "u:1?hunter2@host", "host/1?db=2", "host?db=1_0",
    "host?db=-1", "host?db=1&db=2", "host:1?port=2", "host?host=other", "host?socket_timeout=",
    "u:hunter2@host?username=v",
)  # fmt: skip


IGNORED_BY_STORES = (
    "redis://host:0", "redis://host:", "redis://host?db=3", "redis://u:1#hunter2@host", "memcached://host:0",
    "memcached://u:hunter2@host", "memcached://host/0", "s3://bucket/hunter2", "s3://key:hunter2@bucket",
    "s3://bucket?region=", "dynamodb://table?region", "dynamodb://table?what=1",
)  # fmt: skip


BAD: dict[str, tuple[str, ...]] = {  # what the error says, and of which URLs
    "begins with one of memory://, sqlite://, redis://": ("",),
    "begins with one of": ("hunter2", "hunter2:x@host", "redis:hunter2@host", "://hunter2"),
    "'mysql'; known are memory, sqlite, redis": ("mysql://root:hunter2@host/db",),
    "'postgresql.asyncpg'; known are .*postgresql": ("postgresql+asyncpg://root:hunter2@host/db",),
    "not the URL of a key-value store": (
        "keyvalue+mysql://root:hunter2@host/db", *(f"keyvalue+{url}" for url in IGNORED_BY_STORES)),
    "nothing after": ("memory://hunter2",),
    "three or four slashes": ("sqlite://", "sqlite:///", "sqlite://hunter2", "sqlite://hunter2/file"),
    "MemoryStorage": ("sqlite:///:memory:",),
    "has no options": ("sqlite:///hunter2?mode=ro", "sqlite:////hunter2?check_same_thread=False"),
    "redis://user:password@host": (
        "redis://u:hunter2@host:port", "redis://u:hunter2@host/0?hunter2=1&socket_timeout=x",
        "redis://u:hunter2/word@host:6379/0"),
    "host:6379/0": (
        "redis://u:hunter2@host/production", "rediss://u:hunter2@host/0/1",
        *(f"redis://{url}" for url in REPLACED_BY_REDIS_PY),
        *(f"redis+cluster://one:1,{url}" for url in REPLACED_BY_REDIS_PY[:5])),
    "unix:///path": ("unix://hunter2/redis.sock", "unix://"),
    "service": ("redis+sentinel://u:hunter2@host:1",),
    "sentinel": tuple(f"redis+sentinel://u:hunter2@{rest}" for rest in (
        "host:0/main", "host/main/1_0", "host/main/1?db=2", "host:x/main/0", "host:99999/main", "host,/main",
        "host//0", "host/main/zero", "host/main/0?what=1")),
    r"redis\+cluster://host:port": tuple(f"redis+cluster://u:hunter2@host:{rest}" for rest in ("port", "7000/3")),
    "no value": ("postgresql://u:hunter2@host/db?sslmode=",),
    "percent-encoded": tuple(f"postgresql://u:hunter2{rest}" for rest in (
        "@host:port/db", "@host:0/db", "#x@host/db", "/x@host/db", "@host//db", "@host/db#x", "@[::1/db",
        "@ho:st:1/db")),
}  # fmt: skip


@pytest.mark.parametrize(("hint", "url"), [(hint, url) for hint, urls in BAD.items() for url in urls])
def test_a_bad_url_is_explained_and_not_shown(url: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint) as caught:
        storage_from_url(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.mark.parametrize("url", [None, 5, b"redis://hunter2@host", Path("redis://x")], ids=repr)
def test_what_is_no_text_is_no_url(url: Any) -> None:
    for make in (storage_from_url, RedisStorage.from_url, PostgresStorage):
        with pytest.raises(ConfigError, match=r"(?i)redis://|postgresql://") as caught:
            make(url)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("path", [None, 5, b"x.db", "", ":memory:", "file:x?mode=memory", "a\0b", "\ud800"], ids=ascii)
def test_what_is_no_path_is_no_sqlite_file(path: Any) -> None:
    with pytest.raises(ConfigError, match="path of a file"):
        SQLiteStorage(path)


def run(program: str) -> list[str]:
    """Run a program in a separate interpreter, and return what it prints."""
    program = f"import sys; sys.path[:] = {sys.path!r}\n{program}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split("|")


WITHOUT = """
class Away:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == {driver!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)

sys.meta_path.insert(0, Away())
from sessioncore.storage._url import storage_from_url
storage_from_url('memory://')
try: storage_from_url('{extra}://u:hunter2@host')
except Exception as exc: print(type(exc).__name__, exc, end='|')
try: import sessioncore.storage.{extra}
except ModuleNotFoundError as exc: print(exc.name, type(exc.__cause__).__name__, exc, sep='|')
"""


@pytest.mark.parametrize(("extra", "driver"), [("redis", "redis"), ("redis", "hiredis"), ("postgres", "asyncpg")])
def test_a_storage_without_its_driver_says_what_to_install(extra: str, driver: str) -> None:
    by_url, name, cause, words = run(WITHOUT.format(driver=driver, extra=extra))
    assert by_url == f"ConfigError the driver for this URL is missing: {words.strip()}"
    assert name.partition(".")[0] == driver
    assert cause == "ModuleNotFoundError"
    assert f"pip install 'sessioncore[{extra}]'" in words


OLD_DRIVER = """
import redis.asyncio, redis.credentials
{lacks}
from sessioncore.storage._url import storage_from_url
try: storage_from_url('redis://u:hunter2@host')
except Exception as exc: print(type(exc).__name__, exc, end='|')
try: import sessioncore.storage.redis
except ImportError as exc: print(type(exc).__name__, exc, end='')
"""


@pytest.mark.parametrize(("lacks", "words_of_python"), [
    ("del redis.credentials.StreamingCredentialProvider", "cannot import name 'StreamingCredentialProvider' "),
    ("sys.modules['redis.credentials'] = None", "import of redis.credentials halted"),
])  # fmt: skip
def test_a_storage_whose_driver_is_too_old_says_so(lacks: str, words_of_python: str) -> None:
    by_url, error = run(OLD_DRIVER.format(lacks=lacks))
    kind, _, words = error.partition(" ")
    assert by_url == f"ConfigError the driver for this URL cannot be used: {words}"
    assert kind == "ImportError"
    assert words.startswith(f"this version of redis is not supported ({words_of_python}")
    assert words.endswith("); pip install 'sessioncore[redis]'")


OF_NO_DRIVER = """
from sessioncore.storage._url import storage_from_url
storage_from_url('memory://'); storage_from_url('sqlite:///x')
print({'redis', 'asyncpg', 'key_value'} & set(sys.modules), end='|')
sys.modules['key_value'] = None
from sessioncore.storage.keyvalue import KeyValueStorage; print(KeyValueStorage.__name__)
"""


def test_a_driver_is_imported_only_when_it_is_needed() -> None:
    assert run(OF_NO_DRIVER) == ["set()", "KeyValueStorage\n"]
