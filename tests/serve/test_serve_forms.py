"""Uploads as forms, and files that are no recording but are often taken for one."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from serve_helpers import RunningServer

from separative.serve import Limits
from separative.serve.forms import FormFile
from separative.serve.guard import RefusedError

FILES = {
    "memo.m4a": (b"\0\0\0\x1cftypM4A \0\0\0\0M4A mp42isom", "M4A or MP4"),
    "memo.mp4": (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "M4A or MP4"),
    "voice.3gp": (b"\0\0\0\x18ftyp3gp4\0\0\0\x003gp4", "3GP"),
    "r.webm": (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01", "WebM"),
    "v.aac": (b"\xff\xf1\x50\x80", "AAC"),
    "v.wma": (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"),
}


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_of_phone_formats_are_named(server: RunningServer, name: str) -> None:
    head, words = FILES[name]
    data = head + bytes(4000)
    for response in (
        server.client.post("/api/recordings", params={"name": name}, content=data),
        server.client.post("/api/recordings", files={"file": (name, data)}),
    ):
        assert response.status_code == 415
        detail = response.json()["detail"]
        assert (
            detail.startswith(f"{name}: ")
            and "\n" not in detail
            and str(server.service.scratch.folder) not in detail
        )
        # A file that is named without its content: it cannot be decoded, or there is no audio in it.
        assert words in detail or "audio track" in detail


def test_a_recording_of_a_phone_is_read_and_its_limits_hold(start_server, write_m4a, tmp_path: Path) -> None:
    wave = 0.1 * np.random.default_rng(0).standard_normal(8 * 8000)
    write_m4a(tmp_path / "memo.m4a", wave, 8000)
    data = (tmp_path / "memo.m4a").read_bytes()
    server: RunningServer = start_server(Limits(minutes=0.1))
    too_long = server.client.post("/api/recordings?name=memo.m4a", content=data)
    assert (
        too_long.status_code == 413 and "memo.m4a lasts 0 minutes; at most 0.1" in too_long.json()["detail"]
    )
    assert server.temporary_files() == []
    write_m4a(tmp_path / "short.m4a", wave[:24000], 8000)
    accepted = server.client.post(
        "/api/recordings", files={"file": ("a.m4a", (tmp_path / "short.m4a").read_bytes())}
    )
    assert accepted.status_code == 201 and accepted.json()["seconds"] == 3.0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "a web page, not a recording"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
        (b"PK\x03\x04" + bytes(100), "a ZIP archive; unpack it first"),
    ],
)
def test_other_files_are_named(server: RunningServer, data: bytes, words: str) -> None:
    response = server.client.post("/api/recordings?name=talk.wav", content=data)
    assert response.status_code == 415 and response.json()["detail"].startswith("talk.wav: is ")
    assert words in response.json()["detail"]


def test_a_form_is_an_upload(server: RunningServer, record) -> None:
    path = record("serve-form.wav", 2.0, 90)
    data = path.read_bytes()
    responses = [
        server.client.post("/api/recordings", files={"file": ('mémo "1".wav', data, "audio/wav")}),
        server.client.post("/api/recordings", files={"anything": ("x.wav", data)}, data={"note": "y" * 999}),
        server.client.post("/api/recordings?name=given.wav", files={"file": ("../x.wav", data)}),
    ]
    assert [response.status_code for response in responses] == [201] * 3
    assert [response.json()["name"] for response in responses] == ['mémo "1".wav', "x.wav", "given.wav"]
    for response in responses:
        stored = server.service.scratch.recordings / response.json()["id"]
        assert stored.read_bytes() == data


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_sends_a_form(server: RunningServer, record) -> None:
    path = record("serve-form.wav", 2.0, 90)
    done = subprocess.run(
        ["curl", "-s", "-F", f"file=@{path}", f"{server.url}/api/recordings"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"name":"serve-form.wav"' in done.stdout and '"seconds":2.0' in done.stdout


def test_the_limits_of_uploads_hold_for_forms(start_server, record) -> None:
    data = record("serve-form.wav", 2.0, 90).read_bytes()
    server: RunningServer = start_server(Limits(megabytes=len(data) / 1e6))
    assert server.client.post("/api/recordings", files={"file": ("a.wav", data)}).status_code == 201
    assert server.client.post("/api/recordings", files={"file": ("a.wav", data + b"x")}).status_code == 413
    much = server.client.post(
        "/api/recordings", files={"file": ("a.wav", data)}, data={"note": "y" * 2_000_000}
    )
    assert much.status_code == 422 and "too much besides the file" in much.json()["detail"]
    assert len(server.temporary_files()) == 1


PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nxx\r\n'


@pytest.mark.parametrize(
    ("content_type", "body", "status", "words"),
    [
        ("multipart/form-data", PART + b"--b--\r\n", 400, "names no boundary"),
        ("multipart/form-data; boundary=b", PART, 400, "ends too early"),
        ("multipart/form-data; boundary=b", b"", 400, "ends too early"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disp", 400, "ends too early"),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"x" * 99_999, 400, "too long"),
        ("multipart/form-data; boundary=b", b"--bad\r\n" + PART, 400, "does not end its line"),
        ("multipart/form-data; boundary=b", b"--b--\r\n", 422, "holds no file"),
        ("multipart/form-data; boundary=b", PART + PART + b"--b--\r\n", 422, "several files"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\ny\r\n--b--\r\n',
            422,
            "holds no file",
        ),
    ],
)
def test_forms_that_cannot_be_used_are_refused(
    server: RunningServer, content_type: str, body: bytes, status: int, words: str
) -> None:
    before = len(server.temporary_files())
    response = server.client.post("/api/recordings", content=body, headers={"Content-Type": content_type})
    assert response.status_code == status and words in response.json()["detail"]
    assert len(server.temporary_files()) == before


def read(body: bytes, size: int, boundary: str) -> tuple[bytes, str]:
    """The file and its name in a form that arrives in chunks of ``size`` bytes."""

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    async def content() -> tuple[bytes, str]:
        form = FormFile(chunks(), f'multipart/form-data; charset=utf-8; boundary="{boundary}"')
        return b"".join([part async for part in form.content()]), form.name

    return asyncio.run(content())


def test_the_file_is_found_however_the_form_is_cut_into_chunks() -> None:
    rng, boundary = np.random.default_rng(0), "--x"
    for length in (0, 1, 7, 300):
        # The data holds beginnings of the boundary.
        data = bytes(rng.choice(np.frombuffer(b"\r\n--x-", np.uint8), length)).replace(b"\r\n----x", b"")
        body = (
            b"preamble\r\n----x\r\nContent-Disposition: form-data; name=note\r\n\r\nhello\r\n----x\r\n"
            b"content-type: audio/wav\r\nCONTENT-DISPOSITION: form-data; name=file; "
            b"filename*=UTF-8''%C3%A9.wav\r\n\r\n" + data + b"\r\n----x--\r\nend"
        )
        for size in (1, 2, 3, 5, 11, len(body)):
            assert read(body, size, boundary) == (data, "é.wav")


def test_a_file_field_without_a_file_name_is_a_file() -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\ndata\r\n--b--'
    assert read(body, 9, "b") == (b"data", "")


def test_damaged_forms_end_in_an_error_or_a_file(record: object, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for _ in range(2000):
        changed = bytearray(PART + b"--b--\r\n")
        for _ in range(int(rng.integers(1, 6))):
            place = int(rng.integers(len(changed)))
            if rng.random() < 0.5:
                changed[place] = int(rng.integers(256))
            else:
                del changed[place : place + int(rng.integers(1, 9))]
        try:
            read(bytes(changed), 7, "b")
        except RefusedError as error:
            assert error.status in (400, 422)
