"""Access control and security headers."""

import re
import socket

import pytest
from serve_helpers import RunningServer

from separative.errors import SeparativeError
from separative.serve.guard import HEADERS
from separative.serve.routes import FOLDERS

ROUTES = [
    ("GET", "/", 200),
    ("GET", "/style.css", 200),
    ("GET", "/nothing", 404),
    ("GET", "/api/about", 200),
    ("GET", "/api/jobs/x", 404),
    ("POST", "/api/diarize", 422),
    ("PATCH", "/api/about", 405),
    ("GET", "/openapi.json", 200),
]


@pytest.mark.parametrize(("method", "path", "status"), ROUTES)
def test_every_response_has_the_security_headers(
    server: RunningServer, method: str, path: str, status: int
) -> None:
    response = server.client.request(method, path)
    assert response.status_code == status
    for name, value in HEADERS.items():
        assert response.headers[name] == value
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy
    assert response.headers["cache-control"] == ("no-cache" if path in ("/", "/style.css") else "no-store")


def test_an_internal_error_reveals_nothing_and_has_the_headers(start_server, caplog) -> None:
    server: RunningServer = start_server()
    server.service.gallery._store.close()
    response = server.client.get("/api/gallery")
    assert response.status_code == 500
    assert response.json() == {"detail": "internal server error; see the server's log"}
    assert response.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]
    assert "Cannot operate on a closed database" in caplog.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:99", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("example.org", 421),
        ("localhost.example.org", 421),
        ("127.0.0.1.nip.io:8000", 421),
        ("", 421),
        ("speakers.test", 200),
    ],
)
def test_unknown_host_names_are_refused(saved, start_server, host: str, status: int) -> None:
    server: RunningServer = start_server(allow_host=["speakers.test"])
    assert server.client.get("/api/about", headers={"Host": host}).status_code == status


def test_a_missing_host_header_is_refused(server: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"GET /api/about HTTP/1.0\r\n\r\n")
        assert b" 421 " in raw.recv(100)


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Origin": "{url}"}, True),
        ({"Origin": "{url}", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "http://127.0.0.1:1"}, False),
        ({"Origin": "https://example.org"}, False),
        ({"Origin": "null"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
    ],
)
def test_requests_from_other_sites_cannot_change_anything(
    server: RunningServer, headers: dict[str, str], allowed: bool
) -> None:
    sent = {name: value.format(url=server.url) for name, value in headers.items()}
    response = server.client.delete("/api/gallery/missing", headers=sent)
    assert response.status_code == (404 if allowed else 403)


def test_request_bodies_are_limited(server: RunningServer) -> None:
    long = server.client.post("/api/diarize", content=b" " * 300_000)
    assert long.status_code == 413
    chunked = server.client.post("/api/diarize", content=(b" " * 1000 for _ in range(3)))
    assert chunked.status_code == 411


def test_a_token_is_required_and_replaced_by_a_cookie(start_server) -> None:
    server: RunningServer = start_server(token="s€cret")
    client = server.client
    for path in ("/", "/style.css", "/api/about", "/openapi.json"):
        response = client.get(path)
        assert response.status_code == 401 and response.headers["www-authenticate"] == "Bearer"
        assert response.headers["content-security-policy"]
    assert client.get("/api/about?token=wrong").status_code == 401
    assert client.get("/api/about", headers={"Authorization": "Bearer wrong"}).status_code == 401
    header = {"Authorization": "Bearer s€cret".encode()}
    assert client.get("/api/about", headers=header).status_code in (200, 401)
    entry = client.get("/?a=1&token=s%E2%82%ACcret")
    assert entry.status_code == 303 and entry.headers["location"] == "./?a=1"
    cookie = entry.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and "cret" not in cookie
    assert client.get("/api/about").status_code == 200
    elsewhere = client.get("//example.org/?token=s%E2%82%ACcret")
    assert elsewhere.headers.get("location", "./") == "./"


@pytest.mark.parametrize("token", ["", " "])
def test_an_empty_token_is_refused(start_server, token: str) -> None:
    with pytest.raises(SeparativeError, match="the token is empty"):
        start_server(token=token)


def test_a_program_sends_the_token_in_a_header(start_server) -> None:
    server: RunningServer = start_server(token="plain")
    assert server.client.get("/api/about", headers={"Authorization": "Bearer plain"}).status_code == 200
    assert server.client.post("/api/diarize?token=plain", json={}).status_code == 401


def test_the_page_refers_to_no_other_server(server: RunningServer) -> None:
    # No URL of another server, and nothing that the content security policy would block.
    for path in (path for folder in FOLDERS for path in folder.iterdir() if path.suffix != ".ogg"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"(?:https?:)?//(?!www\.w3\.org/)[a-z0-9-]+\.[a-z]", text), path.name
        assert "innerHTML" not in text and " style=" not in text and "onclick=" not in text
        kind = server.client.get(f"/{path.name}").headers["content-type"]
        assert kind.split(";")[0] in ("text/html", "text/css", "text/javascript", "image/svg+xml")


def test_every_file_of_the_page_is_served(server: RunningServer) -> None:
    page = server.client.get("/").text
    names = set(re.findall(r'(?:src|href)="([\w.-]+)"', page))
    for path in (path for folder in FOLDERS for path in folder.glob("*.js")):
        names |= set(re.findall(r"from '\./([\w.-]+)'", path.read_text(encoding="utf-8")))
    assert {server.client.get(f"/{name}").status_code for name in names} <= {200}
