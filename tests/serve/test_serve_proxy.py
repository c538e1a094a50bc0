"""The server behind a proxy: other host names, other origins, and a path before its own."""

import pytest
from serve_helpers import RunningServer

from separative.errors import SeparativeError
from separative.serve.address import PublicAddress, public_address

PAGE = "https://voices.example.org"


def delete(server: RunningServer, **headers: str) -> tuple[int, str]:
    """Delete a missing speaker: status 404 if the request is allowed."""
    response = server.client.delete("/api/gallery/missing", headers=headers)
    return response.status_code, response.json()["detail"]


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8000", PAGE),
        ("voices.example.org", f"{PAGE}:8443"),
        ("voices.example.org:8000", PAGE),
        ("localhost", "http://localhost.example.org"),
    ],
)
def test_a_refused_page_learns_both_hosts_and_the_cure(start_server, host: str, origin: str) -> None:
    server: RunningServer = start_server(allow_host=["voices.example.org"])
    status, detail = delete(server, Host=host, Origin=origin)
    assert status == 403
    assert f"the page is {origin}, the Host header is {host}" in detail
    assert "let the proxy pass the Host header" in detail and f"--public-url {origin}" in detail


def test_the_public_url_is_an_origin_of_the_server(start_server) -> None:
    server: RunningServer = start_server(public_url=f"{PAGE}/speech/")
    for host in ("127.0.0.1:8000", "voices.example.org", "voices.example.org:8443"):
        assert delete(server, Host=host, Origin=PAGE)[0] == 404
    status, detail = delete(server, Host="127.0.0.1:8000", Origin="https://example.org")
    assert status == 403 and f"the Host header is 127.0.0.1:8000 or {PAGE}" in detail
    assert delete(server, Host="127.0.0.1:8000", Origin="http://voices.example.org")[0] == 403
    assert delete(server, Host="other.example.org", Origin=PAGE)[0] == 421


@pytest.mark.parametrize(
    "options", [{"root_path": "/speech"}, {"root_path": "speech/"}, {"public_url": f"{PAGE}/speech"}]
)
@pytest.mark.parametrize("passed_on", [True, False])
def test_a_proxy_may_remove_the_root_path_or_not(
    start_server, record, options: dict, passed_on: bool
) -> None:
    server: RunningServer = start_server(token="secret", **options)
    root = "/speech" if passed_on else ""
    entry = server.client.get(f"{root}/?token=secret&a=1")
    assert (entry.status_code, entry.headers["location"]) == (303, "./?a=1")
    assert "path=/speech" in entry.headers["set-cookie"].lower()
    assert ("secure" in entry.headers["set-cookie"].lower()) == ("public_url" in options)
    bearer = {"Authorization": "Bearer secret"}
    for path in ("/", "/style.css", "/api/about", "/openapi.json", "/api/gallery"):
        assert server.client.get(f"{root}{path}", headers=bearer).status_code == 200
    content = record("serve-proxy.wav", 1.0, 1).read_bytes()
    chunked = server.client.post(
        f"{root}/api/recordings",
        content=(content[n : n + 9999] for n in range(0, len(content), 9999)),
        headers=bearer,
    )
    assert chunked.status_code == 201
    document = server.client.get(f"{root}/openapi.json", headers=bearer).json()
    assert document["servers"][0]["url"].rstrip("/").endswith("/speech")


def test_the_root_path_without_a_slash_leads_to_the_page(start_server) -> None:
    server: RunningServer = start_server(root_path="/a/speech")
    response = server.client.get("/a/speech")
    assert (response.status_code, response.headers["location"]) == (307, "./speech/")
    assert response.next_request.url.path == "/a/speech/"
    assert server.client.get("/a/speeches").status_code == 404


def test_the_token_link_stays_below_the_path_of_a_proxy(start_server) -> None:
    server: RunningServer = start_server(token="secret")
    for path in ("/", "/style.css", "/api/about", "//example.org/", "/\\example.org"):
        response = server.client.get(f"{path}?token=secret")
        assert response.headers["location"].startswith("./"), path
        server.client.cookies.clear()
        assert response.next_request.url.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("public_url", "root_path"),
    [
        ("voices.example.org", None),
        ("ftp://voices.example.org", None),
        ("https://", None),
        ("https://u:p@voices.example.org", None),
        ("https://voices.example.org/?a=1", None),
        ("https://voices.example.org:port/", None),
        ("https://[::1", None),
        (None, "/a b"),
        (None, "/../x"),
        (None, "/api"),
        (None, "https://voices.example.org"),
    ],
)
def test_invalid_addresses_are_refused(start_server, public_url: str | None, root_path: str | None) -> None:
    with pytest.raises(SeparativeError, match=r"must be like|must not begin"):
        start_server(public_url=public_url, root_path=root_path)


def test_addresses_are_normalised() -> None:
    assert public_address("HTTPS://Voices.Example.org:443/").url == f"{PAGE}/"
    assert public_address("http://[::1]:8080/x").origin == "http://[::1]:8080"
    assert public_address(PAGE, "/speech").url == f"{PAGE}/speech/"
    assert public_address(f"{PAGE}/speech", "/") == PublicAddress(PAGE, "voices.example.org", "")
    assert public_address(None, "/") == PublicAddress()
