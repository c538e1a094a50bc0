"""Models of the Hugging Face Hub: from its cache without network, and from and to a hub on this machine."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from separative.errors import ModelError
from separative.model import SeparativeEncoder, load_model, save_model, update_card

constants = pytest.importorskip("huggingface_hub.constants", reason="needs the extra 'hub'")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer(ThreadingHTTPServer):
    """The few requests of the hub that uploading and downloading a model need; ``files`` are its files."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.created: list[dict[str, Any]] = []
        self.requests: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: HubServer

    def answer(self, content: Any, code: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        self.server.requests.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            self.answer({"url": "http://127.0.0.1/ann/mine", "name": "ann/mine"})
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            files = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            self.answer({"files": files})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"http://{self.headers['Host']}/ann/mine/commit/{COMMIT}"
            self.answer({"success": True, "commitOid": COMMIT, "commitUrl": url})
        else:
            self.answer({"errors": [], "warnings": []})

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        name = self.path.rpartition("/")[2].partition("?")[0]
        if not self.server.files:
            self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        elif "/resolve/" in self.path:
            content = self.server.files[name]
            self.answer(content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=COMMIT)
        elif "/tree/" in self.path:
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in self.server.files.items()
            ]
            self.answer(tree)
        else:
            siblings = [{"rfilename": name} for name in self.server.files]
            self.answer({"id": "ann/mine", "sha": COMMIT, "siblings": siblings, "private": False, "tags": []})

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def model(make: Callable[..., SeparativeEncoder]) -> SeparativeEncoder:
    return make()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub on this machine, and an empty cache."""
    with HubServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield server
        server.shutdown()


def cached(model: SeparativeEncoder, folder: Path, repo: str = "models--ann--mine") -> Path:
    """Write a model into a cache folder as the hub's client does."""
    (folder / repo / "refs").mkdir(parents=True)
    (folder / repo / "refs" / "main").write_text(COMMIT)
    return save_model(model, folder / repo / "snapshots" / COMMIT, identity="speaker")


def test_a_model_in_the_cache_is_loaded_without_a_request(
    model: SeparativeEncoder, hub: HubServer, tmp_path: Path
) -> None:
    cached(model, tmp_path / "cache")
    for name in ("hf://ann/mine", f"hf://ann/mine@{COMMIT}", "hf://ann/mine@main"):
        loaded = load_model(name)
        weights = loaded.state_dict()
        assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
    assert hub.requests == []


def test_a_damaged_model_in_the_cache_is_refused(
    model: SeparativeEncoder, hub: HubServer, tmp_path: Path
) -> None:
    weights = cached(model, tmp_path / "cache") / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="checksum mismatch"):
        load_model("hf://ann/mine")


def test_the_cache_is_not_changed(model: SeparativeEncoder, hub: HubServer, tmp_path: Path) -> None:
    cached(model, tmp_path / "cache")
    with pytest.raises(ModelError, match="the cache of the hub is not changed"):
        update_card("hf://ann/mine", licence="none")


def test_a_model_is_uploaded_and_downloaded(model: SeparativeEncoder, hub: HubServer, tmp_path: Path) -> None:
    assert model.push("ann/mine") == "hf://ann/mine"
    assert hub.created[0]["visibility"] == "private"
    assert set(hub.files) == {"model.json", "model.safetensors", "README.md"}
    assert b'load_model("hf://ann/mine")' in hub.files["README.md"]
    loaded = load_model("hf://ann/mine")
    weights = loaded.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
    count = len(hub.requests)
    load_model("hf://ann/mine")
    assert len(hub.requests) == count


def test_a_model_that_is_not_on_the_hub_is_one_sentence(hub: HubServer) -> None:
    with pytest.raises(ModelError, match="hf://ann/gone is not in the cache of this machine and cannot be"):
        load_model("hf://ann/gone")
    assert hub.requests


def test_offline_only_the_cache_is_used(
    model: SeparativeEncoder, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="not in the cache"):
        load_model("hf://ann/mine")
    cached(model, tmp_path / "cache")
    load_model("hf://ann/mine")
    assert hub.requests == []


@pytest.mark.parametrize("name", ["hf://", "hf://mine", "hf://a/b/c", "hf://../mine", "hf://ann/mi ne"])
def test_a_name_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="must have the form hf://owner/repo"):
        load_model(name)


def test_a_saved_model_keeps_its_card(model: SeparativeEncoder, tmp_path: Path) -> None:
    loaded = load_model(save_model(model, tmp_path / "one", identity="speaker", licence="CC0-1.0"))
    again = load_model(loaded.save(tmp_path / "two"))
    assert again.card == loaded.card and again.card["licence"] == "CC0-1.0"
