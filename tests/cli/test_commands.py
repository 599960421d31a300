"""Every command through the real program, against real servers."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest
from redis.asyncio import Redis
from servers.redis_server import until
from tests.cli.conftest import COMMAND, ENVIRONMENT, ROOT, command, filled, in_this_process
from tests.forks import forking
from tests.numbers import scaled

from sessioncore import SQLiteStorage, __version__
from sessioncore.storage import PROBE_SUFFIX
from sessioncore.storage.redis.records._format import pack

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

APP = """
import sys
from sessioncore import MemoryStorage, SessionConfig, SessionStore, SQLiteStorage
from sessioncore.telemetry import StorageListener
from sessioncore.testing import FailingStorage

class Listener(StorageListener):
    def attached(self, storage):
        print("attached", file=sys.stderr)
    def storage_call(self, operation, seconds, outcome):
        print(operation, file=sys.stderr)
    def __call__(self, event):
        pass

heard = SessionStore(SessionConfig(storage=SQLiteStorage("app.db"), key_prefix="app:", on_event=Listener()))
store = SessionStore(SessionConfig(storage=SQLiteStorage("app.db"), key_prefix="app:"))
memory = SessionStore()
config = SessionConfig.development(absolute_timeout=None)
good = SessionConfig(max_sessions_per_owner=3, on_event=print)
odd = SessionStore(SessionConfig(storage=FailingStorage(MemoryStorage())))
odd.storage.fail("scan", error=ValueError("s3cr3t-p4ssword"))
print("the shop starts")
"""


@pytest.mark.parametrize("kind", ["sqlite", "redis", "postgres", "keyvalue"])
def test_sessions_are_counted_listed_shown_and_ended(kind: str, urls: dict[str, str]) -> None:
    programs = ("show", "check", "migrate") if kind == "sqlite" else ()
    place = filled(urls[kind], *programs)
    assert place("count").out == "6\n"
    assert place("count", "--json", "--key-prefix", "other:").json == {"count": 0}
    [row] = place("list", "--owner", "ada").out.splitlines()
    assert re.fullmatch(place.handle + r'(\t[0-9TZ:-]{20}){3}\t\{"device": "phone \\u001b\[31m\[red\]\\n"\}', row)
    assert len(place("--json", "list", "--owner", "bob").json) == 5
    shown = place("show", place.handle, "--values", "--json").json
    assert shown["values"] == {
        "cart": [{"type": "shop.Item", "value": {"sku": "tea", "count": 2, "note": None}}],
        "when": {"type": "datetime", "value": "2026-01-02T00:00:00+00:00"},
        "nan": {"type": "float", "value": "nan"},
        "raw": {"type": "bytes", "value": "AHg="},
        "by number": {"type": "dict", "value": [[1, {"type": "tuple", "value": [2, {"type": "set", "value": [3]}]}]]},
        "like a type": {"type": "dict", "value": [["type", 1], ["value", 2]]},
        "esc \x1b[31m": "[red]\u202e",
    }
    plain = place("show", place.handle).out
    assert "key\tesc \\u001b[31m\n" in plain
    assert "shop.Item" not in plain
    assert "\nvalue\traw\t" in place("show", place.handle, "--values").out
    if not kind.startswith("keyvalue"):
        moved = place("show", place.moved)
        assert (moved.code, moved.out) == (1, "")
        assert "moved" in moved.err
        assert place.handle not in moved.err
    [kept, *_] = [row.split("\t")[0] for row in place("list", "--owner", "bob").out.splitlines()]
    assert {place("revoke", "--owner", "bob", "--keep", keep).code for keep in (place.handle, "0" * 64)} == {1}
    assert place("revoke", "--owner", "bob", "--keep", kept).out == "4\n"
    assert place("revoke", place.handle).out == "1\n"
    assert place("revoke", place.handle, "--json").json == {"revoked": 0}
    declined = place("revoke", "--all")
    assert (declined.code, declined.out) == (1, "")
    assert "'session:', 1 at present?" in declined.err
    assert place("revoke", "--all", answer="y\n").out == "1\n"
    assert place("count").out == "0\n"
    assert (place("purge").code, place("check").out) == (0, "ok\n")
    assert (place("migrate").out[-8:], place("migrate", "--print").code) in {("igrated\n", 0), ("migrate\n", 0)}


def test_exit_codes_of_what_is_not_there(urls: dict[str, str], tmp_path: Path) -> None:
    secret = "s3cr3t-p4ssword"
    for code, words in [
        (1, ("--storage", urls["redis"], "list", "--owner", "nobody")),
        (1, ("--storage", urls["redis"], "revoke", "0" * 64)),
        (1, ("--storage", urls["redis"], "show", secret)),
        *((2, words) for words in (("count",), ("audit",), ("audit", f"redis://:{secret}@host"))),
        *((2, ("--storage", "memory://", *words)) for words in (["count"], ["migrate"], ["migrate", "--print"])),
        (2, ("--storage", f"nosuch://:{secret}@host", "count")),
        (2, ("--storage", urls["keyvalue-unlisted"], "count")),
        (2, ("--storage", urls["keyvalue-unlisted"], "revoke", "--all", "--yes")),
        (2, ("--storage", urls["redis"], "revoke", secret, secret)),
        (2, ("--storage", urls["redis"], "revoke", "0" * 64, "--all")),
        *((2, ("--storage", urls["redis"], "purge", "--every", seconds)) for seconds in ("0", "nan", "inf", "soon")),
        (2, ("--app", "no.such.module:store", "count")),
        (2, ("--app", "app:memory", "count")),
        (3, ("--storage", f"redis://:{secret}@127.0.0.1:1/0", "count")),
        (3, ("--storage", f"redis+cluster://:{secret}@127.0.0.1:1", "revoke", "0" * 64)),
        (3, ("--storage", re.sub(r"^redis(.+\d)/.*", r"redis+cluster\1", urls["redis"]), "count")),  # no cluster
        (3, ("--storage", f"keyvalue+redis://:{secret}@127.0.0.1:1", "count")),
        (3, ("--storage", "sqlite:///no.db", "migrate")),
        (3, ("--storage", urls["postgres"] + "?search_path=nowhere", "purge", "--every", "60")),  # without a table
        (3, ("--app", "app:store", "count")),
        (3, ("--app", "app:odd", "count")),
    ]:
        (tmp_path / "app.py").write_text(APP)
        run = in_this_process(*words, cwd=tmp_path)
        assert (run.code, run.out) in {(code, ""), (1, "0\n")}, (words, run)
        assert run.err, words
        assert secret not in run.err
    assert not {"no.db", "app.db"} & {path.name for path in tmp_path.iterdir()}


def test_the_store_of_an_application_and_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)

    async def make() -> None:
        storage = SQLiteStorage(tmp_path / "app.db")
        await storage.create("app:1", b"", 1000)
        await storage.create(f"app:2{PROBE_SUFFIX}", b"", 1000)
        await storage.aclose()

    anyio.run(make)
    assert command("count", "--app", "app:store", cwd=tmp_path).out == "1\n"
    told = in_this_process("list", "--owner", "ada", "--app", "app:heard", cwd=tmp_path).err.splitlines()
    assert [line for line in told if line in {"attached", "owned_keys"}] == ["attached", "owned_keys"]
    missing = in_this_process("audit", "app:missing", cwd=tmp_path)
    assert (missing.code, "the module has no 'missing'" in missing.err) == (2, True)
    for text in ("\0", "raise ModuleNotFoundError"):  # errors without a place and a name
        (tmp_path / "broken.py").write_text(text)
        broken = in_this_process("audit", "broken:config", cwd=tmp_path)
        assert (broken.code, "None" in broken.err) == (2, False)
    bad = in_this_process("audit", "--app", "app:config", "--json", cwd=tmp_path)
    assert (bad.code, "ASVS 7.3.2" in {finding["id"] for finding in bad.json}) == (1, True)
    good = command("audit", "app:good", cwd=tmp_path)
    assert (good.code, good.out, "the shop starts" in good.err) == (0, "", True)


def test_it_says_which_extra_is_missing(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError('x', name='click')")
    path = f"{tmp_path}{os.pathsep}{ENVIRONMENT['PYTHONPATH']}"
    run = command("count", PYTHONPATH=path)
    assert run.code == 2
    assert "sessioncore[cli]" in run.err
    importing = [sys.executable, "-c", "import sessioncore.cli"]  # as another program does for `command_group`
    env = ENVIRONMENT | {"PYTHONPATH": path}
    error = subprocess.run(importing, env=env, capture_output=True, text=True, check=False).stderr
    assert error.splitlines()[-1].endswith("which is not installed; pip install 'sessioncore[cli]'")


def test_purging_again_and_again_survives_an_outage_and_ends_at_sigterm(tmp_path: Path) -> None:
    words = [*COMMAND, "--storage", "redis://127.0.0.1:1/0", "purge", "--every", "0.2"]
    with (tmp_path / "err").open("w") as err, forking("sessioncore.cli"):
        started = subprocess.Popen(words, env=ENVIRONMENT, stderr=err)
    with started as process:
        until(lambda: (tmp_path / "err").read_text().count("Not purged") > 1, 30)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_hundred_thousand_sessions_end_with_visible_progress_in_bounded_memory(urls: dict[str, str]) -> None:
    number = scaled(100_000)

    async def fill() -> None:
        async with Redis.from_url(urls["redis"]) as client, client.pipeline(transaction=False) as pipeline:  # pyright: ignore[reportUnknownMemberType]
            for n in range(number):
                pipeline.set(f"session:{n:064x}", pack(n, None, b"x" * 500), px=1_000_000)
                if n % 1000 == 999:
                    await pipeline.execute()

    anyio.run(fill)
    master, terminal = pty.openpty()
    began = time.monotonic()
    process = subprocess.Popen(
        [*COMMAND, "--storage", urls["redis"], "revoke", "--all", "--yes"], stdout=terminal, stderr=terminal,
        env={**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(terminal)
    shown, peak = b"", 0
    try:
        while part := os.read(master, 65536):
            shown += part
            found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
            peak = int(found[1]) // 1024 if found else peak
    except OSError:  # the program has ended
        pass
    os.close(master)
    assert process.wait() == 0
    print(f"{number} sessions in {time.monotonic() - began:.1f} s, peak {peak} MB")
    assert re.search(rb"Ending sessions.*?[1-9]\d*/%d" % number, shown)
    assert b"Sessions ended: %d" % number in shown
    assert 10 < peak < 150
    assert command("--storage", urls["redis"], "count").out == "0\n"


def _with_sigint() -> None:
    """Restore SIGINT: a shell makes its background jobs ignore it, and their children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_is_130(urls: dict[str, str], tmp_path: Path) -> None:
    words = [*COMMAND, "--storage", urls["sqlite"], "purge", "--every", "9"]
    (Path(urls["sqlite"].removeprefix("sqlite://"))).touch()
    with (
        (tmp_path / "out").open("w") as out,
        subprocess.Popen(words, env=ENVIRONMENT, stdout=out, stderr=subprocess.PIPE, preexec_fn=_with_sigint) as purge,  # noqa: PLW1509 - no threads here
    ):
        until((tmp_path / "out").read_text, 30)
        purge.send_signal(signal.SIGINT)
        assert (b"Interrupted." in purge.communicate(timeout=20)[1], purge.returncode) == (True, 130)


def test_the_name_alone_prints_the_help() -> None:
    said = in_this_process()
    assert "\nCommands:\n" in said.out + said.err
    assert "Error" not in said.err


def test_the_program_is_installed_under_its_name_and_knows_its_version() -> None:
    assert 'sessioncore = "sessioncore.__main__:main"' in (ROOT / "pyproject.toml").read_text()
    assert in_this_process("--version").out == f"sessioncore, version {__version__}\n"


@pytest.mark.parametrize("option", ["--key-prefix", "--storage"])
def test_an_option_that_a_script_left_empty_is_refused_and_does_not_mean_the_default(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`revoke --all --key-prefix "$UNSET"` must not end the sessions of another prefix."""
    url = f"sqlite:///{tmp_path}/sessions.db"
    filled(url)
    monkeypatch.setenv("SESSIONCORE_STORAGE", url)
    assert in_this_process("revoke", "--all", "--yes", option, "").code == 2
    assert in_this_process("--storage", url, "count").out == "6\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ModuleNotFoundError("x", name="rich.console")])
def test_what_happens_before_the_command_begins_has_no_traceback(
    error: type[BaseException] | BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr("sessioncore.cli.run_command_line", run)
    assert in_this_process("count").code == (130 if error is KeyboardInterrupt else 2)


def test_a_file_in_a_folder_that_may_not_be_entered_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: object) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)  # tests may run as root, who may enter each folder
    assert in_this_process("--storage", "sqlite:////closed/sessions.db", "count").code == 3


@pytest.mark.parametrize(
    ("redirection", "code", "says"),
    [("> /dev/full", 2, "No space left"), (">&-", 2, "Bad file"), ("2>&-", 0, ""), ("<&- >&- 2>&-", 2, "")],
)
def test_an_unwritable_output_has_no_traceback(redirection: str, code: int, says: str, tmp_path: Path) -> None:
    filled(url := f"sqlite:///{tmp_path}/sessions.db")
    line = f'"$@" {redirection}'
    shell = ["sh", "-c", line, "sh", *COMMAND, "--storage", url, "list", "--owner", "bob"]
    done = subprocess.run(shell, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (done.returncode, says in done.stderr, "Traceback" in done.stderr) == (code, True, False)
    assert len(done.stderr.splitlines()) == bool(says)


@pytest.mark.parametrize("words", [("list", "--owner", "bob"), ("purge", "--every", "9"), ("--help",)])
def test_a_closed_pipe_ends_the_command_quietly(words: tuple[str, ...], tmp_path: Path) -> None:
    filled(url := f"sqlite:///{tmp_path}/sessions.db")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe, forking("sessioncore.cli"):
        done = subprocess.run([*COMMAND, *words], env={**ENVIRONMENT, "SESSIONCORE_STORAGE": url}, stdout=pipe,
                              stderr=subprocess.PIPE, text=True, check=False)  # fmt: skip
    assert (done.returncode, "rror" in done.stderr) == (0, False)
