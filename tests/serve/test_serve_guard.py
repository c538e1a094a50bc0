"""Who may ask what, and what every answer tells the browser."""

import re
import socket
from pathlib import Path

import pytest
from serve_helpers import Running

from separative.errors import SeparativeError
from separative.serve.guard import HEADERS
from separative.serve.routes import PAGE

EVERY_KIND = [
    ("GET", "/", 200),
    ("GET", "/style.css", 200),
    ("GET", "/nothing", 404),
    ("GET", "/api/about", 200),
    ("GET", "/api/jobs/x", 404),
    ("POST", "/api/diarize", 422),
    ("PATCH", "/api/about", 405),
    ("GET", "/openapi.json", 200),
]


@pytest.mark.parametrize(("method", "path", "status"), EVERY_KIND)
def test_strict_headers_are_on_every_answer(server: Running, method: str, path: str, status: int) -> None:
    answer = server.client.request(method, path)
    assert answer.status_code == status
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy
    assert answer.headers["cache-control"] == ("no-cache" if path in ("/", "/style.css") else "no-store")


def test_a_failure_of_ours_tells_nothing_and_has_the_headers_too(start, caplog) -> None:
    server: Running = start()
    server.service.gallery._rows.db.close()
    answer = server.client.get("/api/gallery")
    assert answer.status_code == 500
    assert answer.json() == {"detail": "something went wrong inside the server; its log says what"}
    assert answer.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]
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
        ("voices.test", 200),
    ],
)
def test_only_hosts_of_ours_are_answered(saved, start, host: str, status: int) -> None:
    server: Running = start(allow_host=["voices.test"])
    assert server.client.get("/api/about", headers={"Host": host}).status_code == status


def test_no_host_at_all_is_refused(server: Running) -> None:
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
def test_other_sites_cannot_change_anything(server: Running, headers: dict[str, str], allowed: bool) -> None:
    sent = {name: value.format(url=server.url) for name, value in headers.items()}
    answer = server.client.delete("/api/gallery/nobody", headers=sent)
    assert answer.status_code == (404 if allowed else 403)


def test_texts_are_short(server: Running) -> None:
    long = server.client.post("/api/diarize", content=b" " * 300_000)
    assert long.status_code == 413
    unsaid = server.client.post("/api/diarize", content=(b" " * 1000 for _ in range(3)))
    assert unsaid.status_code == 411


def test_a_token_is_wanted_and_goes_into_a_cookie_once(start) -> None:
    server: Running = start(token="s€cret")
    client = server.client
    for path in ("/", "/style.css", "/api/about", "/openapi.json"):
        answer = client.get(path)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-security-policy"]
    assert client.get("/api/about?token=wrong").status_code == 401
    assert client.get("/api/about", headers={"Authorization": "Bearer wrong"}).status_code == 401
    right = {"Authorization": "Bearer s€cret".encode()}
    assert client.get("/api/about", headers=right).status_code in (200, 401)
    entry = client.get("/?a=1&token=s%E2%82%ACcret")
    assert entry.status_code == 303 and entry.headers["location"] == "/?a=1"
    cookie = entry.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and "cret" not in cookie
    assert client.get("/api/about").status_code == 200
    elsewhere = client.get("//example.org/?token=s%E2%82%ACcret")
    assert elsewhere.headers.get("location", "/").startswith("/") and "//" not in elsewhere.headers.get(
        "location", "/"
    )


@pytest.mark.parametrize("token", ["", " "])
def test_an_empty_token_is_refused(start, token: str) -> None:
    with pytest.raises(SeparativeError, match="an empty token keeps nobody out"):
        start(token=token)


def test_a_token_of_a_program(start) -> None:
    server: Running = start(token="plain")
    assert server.client.get("/api/about", headers={"Authorization": "Bearer plain"}).status_code == 200
    assert server.client.post("/api/diarize?token=plain", json={}).status_code == 401


def test_the_page_asks_nobody_else(server: Running) -> None:
    # Nothing in its files points outside, and nothing would be let in without a policy's consent.
    for path in PAGE.iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"(?:https?:)?//(?!www\.w3\.org/)[a-z0-9-]+\.[a-z]", text), path.name
        assert "innerHTML" not in text and " style=" not in text and "onclick=" not in text
        kind = server.client.get(f"/{path.name}").headers["content-type"]
        assert kind.split(";")[0] in ("text/html", "text/css", "text/javascript", "image/svg+xml")


def test_every_file_the_page_names_is_served(server: Running) -> None:
    page = server.client.get("/").text
    named = set(re.findall(r'(?:src|href)="([\w.-]+)"', page))
    for path in Path(PAGE).glob("*.js"):
        named |= set(re.findall(r"from '\./([\w.-]+)'", path.read_text(encoding="utf-8")))
    assert {server.client.get(f"/{name}").status_code for name in named} <= {200}
