"""The format of records and patterns, and which error each error reply becomes."""

import fnmatch
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from servers.redis_server import one_server, until
from tests.storage.redis_rig import Own, client_of
from tests.storage.rigs import made

from sessioncore._errors import StorageError, StorageUnavailable
from sessioncore.storage.redis import RedisStorage
from sessioncore.storage.redis._errors import AclDenied, ErrorReply, error_of
from sessioncore.storage.redis.records import _format as fmt

# The same errors in the words of 6.2 and of 7.
OOM = [
    "OOM command not allowed when used memory > 'maxmemory'.",
    "ERR Error running script (call to f_ab12): @user_script:3: @user_script: 3: -OOM command not allowed when used",
    "@user_script: 31: -OOM command not allowed when used memory > 'maxmemory'.",
    "OOM command not allowed when used memory > 'maxmemory'. script: ab12, on @user_script:31.",
]
DENIED = [
    "NOPERM this user has no permissions to access one of the keys used as arguments",
    "NOPERM No permissions to access a key",
    "NOPERM this user has no permissions to run the 'zadd' command",
    "NOPERM this user has no permissions to access the 'session:secret' key",
    "ERR The user executing the script can't run this command or subcommand script: ab12, on @user_script:1.",
    "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments",
    "ERR ACL failure in script: User web has no permissions to run the 'zadd' command script: ab12, on @user_script:1.",
    "ERR ACL failure in script: User web has no permissions to access the 'session:secret' key script: ab12",
    "ERR Error running script (call to f_ab12): @user_script:2: -NOPERM The user executing the script can't run this",
    "@user_script: 31: The user executing the script can't run this command or subcommand",
    "The user executing the script can't run this command or subcommand",
    "NOPERM User web has no permissions to access the 'owner:secret's:sessioncore-index' key",
    "NOPERM User web has no permissions to access the owner:a secret:sessioncore-index key, it seems",
]
TYPE = [
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "ERR Error running script (call to f_ab12): @user_script:2: WRONGTYPE Operation against a key",
]


@pytest.mark.parametrize("words", DENIED)
def test_a_missing_right_is_recognised_in_the_words_of_every_version(words: str) -> None:
    error = error_of(ErrorReply(words))
    assert isinstance(error, StorageError)
    assert not isinstance(error, StorageUnavailable)
    assert isinstance(error, AclDenied) is ("key" in words)
    assert ("ACL LOG" in str(error)) is ("zadd" not in words)
    assert "secret" not in f"{error}{error.__cause__}"
    assert "secret" not in f"{ErrorReply(words)!r} {vars(ErrorReply(words))}"


@pytest.mark.parametrize(
    ("words", "kept"),
    {
        "ERR The user can't do that, and isn't told why": "ERR The user can't do that, and isn't told why",
        "NOPERM no permissions to access the 'session:it's secret' key": "NOPERM no permissions to access the ... key",
        "NOPERM User web has no permissions to run the 'zadd' command": (
            "NOPERM User web has no permissions to run the zadd command"
        ),
        "ERR unknown command `EVALSHA`, with args beginning with: 'secret' '1'": (
            "ERR unknown command EVALSHA, with args beginning with: ..."
        ),
        "ERR a quote 'that does not end": "ERR a quote ...",
        "NOPROTO unsupported protocol version": "NOPROTO unsupported protocol version",
        "ERR unsupported command 'hello'": "ERR unsupported command hello",  # as Envoy says it
    }.items(),
)
def test_a_servers_own_words_are_kept_without_what_they_quote(words: str, kept: str) -> None:
    refusal = ErrorReply(words)
    assert str(refusal) == kept
    assert ("lacks the right +zadd;" in str(error_of(refusal))) is ("zadd" in words)
    assert ("protocol=2 into the URL" in str(error_of(refusal))) is ("unsupported" in words)
    assert "secret" not in f"{refusal!r} {error_of(refusal)!r}"


PASSING = ["LOADING", "READONLY", "CLUSTERDOWN", "MASTERDOWN", "NOAUTH", "TRYAGAIN", "MISCONF", "BUSY", "NOREPLICAS"]
CODES = [
    *((words, "OOM") for words in OOM), *((words, "WRONGTYPE") for words in TYPE),
    *((f"{code} whatever it says", code) for code in PASSING),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code"), CODES)
def test_the_code_is_recognised_and_what_may_pass_by_itself_or_by_an_operator_is_unavailable(
    words: str, code: str
) -> None:
    error = error_of(ErrorReply(words))
    assert isinstance(error, StorageUnavailable) is (code != "WRONGTYPE")
    assert code in str(error)


@pytest.mark.parametrize(
    "words", ["ERR @user_script: 99", "ERR @user_script: " + "9" * 5000, "ERR " + "access " * 9000]
)
def test_words_that_no_server_says_are_an_error_within_a_moment(words: str) -> None:
    begin = time.thread_time()
    assert type(error_of(ErrorReply(words), b"one line")) is StorageError
    assert time.thread_time() - begin < 0.5


@given(st.integers(0, 2**63 - 1), st.none() | st.binary(max_size=50), st.binary(max_size=200))
def test_a_record_comes_back_from_its_value(version: int, owner: bytes | None, data: bytes) -> None:
    value = fmt.pack(version, owner, data)
    assert fmt.unpack(value) == (version, owner, data)
    assert value[2:10] == fmt.head_of(version)


@pytest.mark.proves("AT-56")
@given(st.text(alphabet="ab*?[]^-\\{}:", max_size=8), st.text(alphabet="ab*?[]^-\\{}:", max_size=10))
def test_a_pattern_matches_the_prefix_letter_by_letter(prefix: str, key: str) -> None:
    pattern = fmt.glob_of(prefix.encode()).decode()
    assert pattern.endswith("*")
    # A Redis pattern in which every special character is escaped matches that text only.
    assert re.sub(r"\\(.)", r"\1", pattern[:-1]) == prefix
    for_fnmatch = re.sub(r"([*?\[])", r"[\1]", prefix)
    assert key.startswith(prefix) == fnmatch.fnmatchcase(key, f"{for_fnmatch}*")


@given(st.floats(min_value=1e-9, max_value=1e18))
def test_a_ttl_becomes_whole_milliseconds_and_never_none(ttl: float) -> None:
    millis = fmt.millis(ttl)
    assert 1 <= millis <= 1 << 48
    assert millis >= ttl * 1000 or millis == 1 << 48


@pytest.mark.anyio
@pytest.mark.redis
async def test_a_client_with_its_own_commands_raises_the_same_errors() -> None:
    with one_server() as server:
        client = client_of(server.port, Own, retry=Retry(NoBackoff(), 0))
        storage = RedisStorage(client)
        at = await made(storage, "k", owner="u")
        await client.hset("o:sessioncore-index", "field", "value")
        with pytest.raises(StorageError, match="WRONGTYPE"):
            await storage.create("other", b"", 5, owner="o")
        server.do("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(StorageUnavailable, match="OOM"):
            await storage.replace("k", b"", 10, version=at, owner="u")
        server.do("CONFIG", "SET", "maxmemory", 0)
        server.do("SCRIPT", "FLUSH")
        assert isinstance(await storage.replace("k", b"", 10, version=at, owner="u"), int)
        server.do("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StorageUnavailable, match="READONLY"):
            await storage.create("new", b"", 10)
        server.kill()
        with pytest.raises(StorageUnavailable):
            await storage.load("k")
        server.start()
        until(lambda: server.do("PING"))
        assert await storage.load("k") is None
        await storage.aclose()
        await client.aclose()
