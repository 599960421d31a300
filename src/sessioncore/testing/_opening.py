"""The contract of `Opens` and `SpreadsKeys`: opening may be repeated, and every server of a storage can be probed."""

from sessioncore.storage import Opens, SpreadsKeys
from sessioncore.testing._rig import Rig, check, holds, put, storage_as


@check(Opens)
async def opening_again_has_no_effect(rig: Rig) -> None:
    await storage_as(rig, Opens).open()
    created = await put(rig, "a", b"data")
    await storage_as(rig, Opens).open()
    assert await holds(rig, "a", b"data", created)


@check(Opens)
async def a_working_storage_passes_its_own_check(rig: Rig) -> None:
    await storage_as(rig, Opens).check()
    created = await put(rig, "a", b"data")
    await storage_as(rig, Opens).check()
    assert await holds(rig, "a", b"data", created), "checking changes no record"


@check(Opens)
async def closing_again_has_no_effect(rig: Rig) -> None:
    await storage_as(rig, Opens).open()
    await storage_as(rig, Opens).aclose()
    await storage_as(rig, Opens).aclose()
    await storage_as(rig, Opens).open()
    assert await holds(rig, "a", b"data", await put(rig, "a")), "a storage that was closed can be opened again"


@check(SpreadsKeys)
async def each_server_gets_two_keys_and_an_owner(rig: Rig) -> None:
    offered: list[str] = []

    def new_name() -> str:
        offered.append(f"name:{len(offered)}")
        return offered[-1]

    servers = await storage_as(rig, SpreadsKeys).names_on_servers(new_name)
    assert servers
    names = [name for of_one in servers.values() for name in of_one]
    assert len(names) == len(set(names)) == 3 * len(servers)
    assert set(names) <= set(offered)
