"""docs/libraries/nicegui.md in Chromium, by `make test-recipes`."""

import shutil
from pathlib import Path

import pytest
from tests.recipes.kit import serve_alone

pytest.importorskip("nicegui", reason="NiceGUI runs in `make test-recipes`")
sync_api = pytest.importorskip("playwright.sync_api", reason="NiceGUI runs in Chromium")

WRITES_IN_A_SOCKET = """
@ui.page("/writing")
async def writing(request: Request) -> None:
    session = await get_session(request, scope_key="account")

    def write() -> None:
        try:
            session["tea"] = "Assam"
        except Exception as error:
            ui.label(f"{session.owner}: {type(error).__name__}")

    ui.button("Write", on_click=write)
"""


def test_ada_logs_in_adds_a_tea_and_leaves_in_every_tab(tmp_path: Path) -> None:
    with (
        serve_alone("libraries/nicegui.md", tmp_path, WRITES_IN_A_SOCKET) as server,
        sync_api.sync_playwright() as playwright,
    ):
        program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
        chromium = playwright.chromium.launch(executable_path=program)
        context = chromium.new_context(ignore_https_errors=True, base_url=server.url)
        page = context.new_page()
        page.goto("/")
        page.get_by_label("Name").fill("ada")
        page.get_by_label("Password").fill("enchantress")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("Welcome, ada").wait_for()
        page.get_by_role("button", name="Add a tea").click()
        page.get_by_text("1 teas").wait_for()
        other = context.new_page()
        other.goto("/")
        other.get_by_role("button", name="Add a tea").click()
        other.get_by_text("2 teas").wait_for()
        writing = context.new_page()
        writing.goto("/writing")
        writing.get_by_role("button", name="Write").click()
        writing.get_by_text("ada: SessionReleased").wait_for()
        [cookie] = [cookie for cookie in context.cookies() if cookie["name"] == "__Host-session_id"]
        page.get_by_role("button", name="Leave").click()
        page.get_by_role("button", name="Sign in").wait_for()
        other.get_by_role("button", name="Sign in").wait_for()
        context.add_cookies([cookie])
        page.goto("/")
        page.get_by_role("button", name="Sign in").wait_for()
        chromium.close()
