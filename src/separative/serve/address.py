"""The address of the server as browsers see it, directly or through a proxy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from separative.errors import SeparativeError

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class PublicAddress:
    """Where browsers reach the server.

    Attributes:
        origin: scheme, host and port; empty to take them from each request.
        host: host name; empty without an origin.
        root_path: path below which the server is found, without a slash at its end; empty for none.

    >>> PublicAddress("https://voices.example.org", "voices.example.org", "/speech").url
    'https://voices.example.org/speech/'
    """

    origin: str = ""
    host: str = ""
    root_path: str = ""

    @property
    def url(self) -> str:
        """Address of the page; empty without an origin."""
        return f"{self.origin}{self.root_path}/" if self.origin else ""


def public_address(public_url: str | None = None, root_path: str | None = None) -> PublicAddress:
    """Check and combine the options of the server.

    Args:
        public_url: address of the page, for example ``https://voices.example.org/speech``.
        root_path: path of the page; by default that of ``public_url``.

    Raises:
        SeparativeError: an option is not valid.

    >>> public_address("https://voices.example.org/speech/").root_path
    '/speech'
    >>> public_address("voices.example.org")
    Traceback (most recent call last):
    separative.errors.SeparativeError: the public URL 'voices.example.org' must be like https://...
    """
    path = _root_path(root_path) if root_path is not None else None
    if public_url is None:
        return PublicAddress(root_path=path or "")
    try:
        parts = urlsplit(public_url.strip())
        port = parts.port
    except ValueError:
        # A port that is no number, or brackets that do not match.
        parts, port = urlsplit(""), None
    host = (parts.hostname or "").lower()
    whole = parts.scheme in DEFAULT_PORTS and re.fullmatch(r"[a-z0-9._:-]+", host)
    if not whole or parts.query or parts.fragment or "@" in parts.netloc:
        raise SeparativeError(f"the public URL '{public_url}' must be like https://voices.example.org/speech")
    shown = f"[{host}]" if ":" in host else host
    shown += "" if port in (None, DEFAULT_PORTS[parts.scheme]) else f":{port}"
    return PublicAddress(f"{parts.scheme}://{shown}", host, _root_path(parts.path) if path is None else path)


def same_host(origin: str, host: str) -> bool:
    """True if a page of an origin may talk to the server with this Host header.

    >>> same_host("https://voices.example.org", "Voices.example.org:443"), same_host("null", "localhost")
    (True, False)
    >>> same_host("https://voices.example.org:8443", "voices.example.org")
    False
    """
    scheme, _, netloc = origin.lower().partition("://")
    if scheme not in DEFAULT_PORTS or not netloc:
        return False
    default = f":{DEFAULT_PORTS[scheme]}"
    return netloc.removesuffix(default) == host.lower().removesuffix(default)


def _root_path(path: str) -> str:
    plain = "/".join(["", *(part for part in path.strip().split("/") if part)])
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", plain) or {".", ".."} & set(plain.split("/")):
        raise SeparativeError(f"the root path '{path}' must be like /speech: letters, digits and . _ ~ -")
    if plain.split("/")[1:2] == ["api"]:
        raise SeparativeError(
            f"the root path '{path}' must not begin with /api, the path of the server's API"
        )
    return plain
