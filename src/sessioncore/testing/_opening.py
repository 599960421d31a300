"""The contract of `Opens`: opening and closing may be repeated, and neither takes records away."""

from sessioncore.storage import Opens
from sessioncore.testing._rig import Rig, checks, holds, opens, put


async def opening_again_has_no_effect(rig: Rig) -> None:
    await opens(rig).open()
    created = await put(rig, "a", b"data")
    await opens(rig).open()
    assert await holds(rig, "a", b"data", created)


async def a_working_storage_passes_its_own_check(rig: Rig) -> None:
    await opens(rig).check()
    created = await put(rig, "a", b"data")
    await opens(rig).check()
    assert await holds(rig, "a", b"data", created), "checking changes no record"


async def closing_again_has_no_effect(rig: Rig) -> None:
    await opens(rig).open()
    await opens(rig).aclose()
    await opens(rig).aclose()


CHECKS = checks(
    opening_again_has_no_effect,
    a_working_storage_passes_its_own_check,
    closing_again_has_no_effect,
    needs=[Opens],
)
