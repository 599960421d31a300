"""docs/libraries/gradio.md with Gradio's own client, by `make test-recipes`."""

from pathlib import Path

import pytest
from tests.recipes.kit import serve_alone

gradio_client = pytest.importorskip("gradio_client", reason="Gradio runs in `make test-recipes`")

WRITES_IN_AN_EVENT = """
def write(request: gr.Request) -> str:
    try:
        request.session["tea"] = "Assam"
    except Exception as error:
        return f"{request.username}: {type(error).__name__}"
    return "written"

with gr.Blocks() as writing:
    gr.Button().click(write, outputs=gr.Textbox())
app = gr.mount_gradio_app(app, writing, path="/writing", auth_dependency=current_user)
"""


def test_ada_logs_in_keeps_teas_and_leaves(tmp_path: Path) -> None:
    with serve_alone("libraries/gradio.md", tmp_path, WRITES_IN_AN_EVENT) as server, server.client() as ada:
        assert ada.get("/teas/").status_code == 401
        assert ada.post("/login", data={"name": "ada", "password": "wrong"}).url.path == "/"
        page = ada.post("/login", data={"name": "ada", "password": "enchantress"})
        assert (page.status_code, page.url.path) == (200, "/teas/")
        cookies = {"cookie": f"__Host-session_id={ada.cookies['__Host-session_id']}"}
        options = {"headers": cookies, "ssl_verify": False, "verbose": False}
        app = gradio_client.Client(f"{server.url}/teas/", **options)
        assert app.predict("Assam", api_name="/add_tea") == "Assam"
        assert app.predict("Darjeeling", api_name="/add_tea") == "Assam, Darjeeling"
        writing = gradio_client.Client(f"{server.url}/writing/", **options)
        assert writing.predict(api_name="/write") == "ada: SessionReleased"
        ada.post("/logout")
        with pytest.raises(Exception, match=r"401|Not authenticated"):
            app.predict("Ceylon", api_name="/add_tea")
        assert ada.get("/teas/").status_code == 401
