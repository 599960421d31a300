"""IDs: long, random, checked in constant work, and hashed before anybody else sees them."""

import hashlib
import os
import secrets
import string
import subprocess
import sys
from pathlib import Path

import pytest

from sessioncore.http._ids import handle_of, is_handle, is_id, new_id

ALPHABET = string.ascii_letters + string.digits + "-_"


@pytest.mark.proves("AT-137", "ASVS 7.2.2", "ASVS 7.2.3", "ASVS 11.5.1")
def test_a_new_id_is_43_characters_of_base64url_and_never_the_same() -> None:
    made = {new_id() for _ in range(20_000)}
    assert len(made) == 20_000
    assert all(len(text) == 43 and is_id(text) for text in made)
    assert set("".join(made)) == set(ALPHABET)


@pytest.mark.proves("P1", "AT-137", "ASVS 7.2.3")
def test_a_new_id_comes_from_the_systems_randomness_and_its_failure_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> bytes:
        raise OSError("no randomness")

    monkeypatch.setattr(secrets, "token_bytes", broken)
    with pytest.raises(OSError, match="no randomness"):
        new_id()


@pytest.mark.proves("AT-137")
def test_a_forked_child_makes_other_ids() -> None:
    script = (
        "import os; from sessioncore.http._ids import new_id; new_id(); os.fork(); "
        "os.write(1, new_id().encode() + b' ')"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path("src").resolve())}
    run = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    parent, child = run.stdout.split()
    assert parent != child


@pytest.mark.proves("AT-3", "AT-95", "ASVS 3.3.5")
def test_the_length_of_an_id_is_bounded_and_a_foreign_character_anywhere_makes_it_no_id() -> None:
    assert [length for length in (0, 21, 22, 256, 257) if is_id("a" * length)] == [22, 256]
    for char in [*"+/=.%~ ;,:\"'\\*?\x00\r\n\t\x7f", "é", "\u2000", "\u0661", "Ａ", "\ud800"]:
        for text in (char + "a" * 42, "a" * 42 + char, "a" * 21 + char + "a" * 21):
            assert not is_id(text)
            assert not is_handle((text * 2)[:64])


@pytest.mark.proves("P6")
def test_a_handle_is_the_sha256_of_the_id_in_64_lower_hex_digits() -> None:
    text = new_id()
    assert handle_of(text) == hashlib.sha256(text.encode()).hexdigest()
    assert is_handle(handle_of(text))
    assert text not in handle_of(text)
    for wrong in ("", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 63 + "\n", "١" * 64, b"a" * 64, None, 5):
        assert not is_handle(wrong)
