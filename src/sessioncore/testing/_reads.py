"""The contract of reading: a record comes back as it was stored, under its own key only."""

import hashlib

from sessioncore.testing._rig import LONG, Rig, check, holds, put, record, version

ODD_KEYS = (
    "k", "kk", "kkk", "k:", "k:k", "K", "\u212a", " k", "k ", "k k", "*", "k*", "?", "[k]", "[^k]", "\\",
    "k\\*", "{k}", "{}", "{", "}", "%", "_", "k%", "k_", "'", '"', "k'; --", "\t", "\r\n", "é", "e\u0301",
    "ß", "ss", "日本", "\U0001f36a", "\u200b", "k" * 300, "k" * 299 + "j", "0", "00", "1e0", "null", "../k", "k/k",
)  # fmt: skip


@check()
async def a_missing_key_loads_nothing(rig: Rig) -> None:
    assert await rig.storage.load("missing") is None
    assert await rig.storage.load("missing", renew=LONG) is None
    assert await rig.storage.load("missing") is None


@check()
async def what_was_created_is_loaded(rig: Rig) -> None:
    created = await put(rig, "a", b"data")
    stored = record(await rig.storage.load("a"))
    assert stored.data == b"data"
    assert stored.version == created


@check()
async def data_comes_back_byte_for_byte(rig: Rig) -> None:
    samples = {
        "empty": b"",
        "nul": b"\0",
        "every-byte": bytes(range(256)),
        "not-utf8": b"\xff\xfe\x80",
        "digits": b"123",
        "newlines": b"\r\n\r\n",
    }
    for key, data in samples.items():
        await put(rig, key, data)
    for key, data in samples.items():
        assert record(await rig.storage.load(key)).data == data, key


@check()
async def a_mebibyte_comes_back_whole(rig: Rig) -> None:
    big = hashlib.shake_256(b"big").digest(1 << 20)
    created = await put(rig, "big", big)
    assert await holds(rig, "big", big, created)
    bigger = version(await rig.storage.replace("big", big[::-1], LONG, version=created))
    assert await holds(rig, "big", big[::-1], bigger)


@check()
async def odd_keys_are_kept_apart(rig: Rig) -> None:
    versions = {key: await put(rig, key, b"data of " + key.encode()) for key in ODD_KEYS}
    for key, created in versions.items():
        assert await holds(rig, key, b"data of " + key.encode(), created), key


@check()
async def deleting_one_odd_key_spares_the_others(rig: Rig) -> None:
    for key in ODD_KEYS:
        await put(rig, key)
    for position, key in enumerate(ODD_KEYS):
        assert await rig.storage.delete(key) == 1, key
        assert await rig.storage.load(key) is None
        if position + 1 < len(ODD_KEYS):
            assert await rig.storage.load(ODD_KEYS[position + 1]) is not None, key


@check()
async def loading_changes_nothing(rig: Rig) -> None:
    created = await put(rig, "a", b"data")
    for _ in range(5):
        assert await holds(rig, "a", b"data", created)
    version(await rig.storage.replace("a", b"new", LONG, version=created))
