"""Files in forms (multipart/form-data), as ``curl -F file=@talk.wav`` and HTML forms send them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from urllib.parse import unquote

from separative.serve.guard import RefusedError

MAX_PART_HEADER = 16_384
# Bytes of other fields of a form, all together.
MAX_OTHER_BYTES = 1 << 20


class FormFile:
    """The file in a form, read while it arrives.

    Args:
        chunks: body of the request.
        content_type: header of the request; it names the boundary between the parts.

    Attributes:
        name: file name in the form. It is known once the file has begun to arrive.

    Raises:
        RefusedError: the header names no boundary (status 400).

    >>> import asyncio
    >>> async def body():
    ...     yield b'--x\\r\\nContent-Disposition: form-data; name="file"; filename="a.wav"\\r\\n\\r\\nRI'
    ...     yield b'FF\\r\\n--x--'
    >>> async def read():
    ...     form = FormFile(body(), "multipart/form-data; boundary=x")
    ...     return b"".join([part async for part in form.content()]), form.name
    >>> asyncio.run(read())
    (b'RIFF', 'a.wav')
    """

    def __init__(self, chunks: AsyncIterator[bytes], content_type: str) -> None:
        found = re.search(r'boundary=(?:"([^"]{1,200})"|([^\s;,"]{1,200}))', content_type, re.IGNORECASE)
        if found is None:
            raise _invalid_form("its Content-Type header names no boundary")
        self.name = ""
        self._delimiter = b"\r\n--" + (found[1] or found[2]).encode("latin-1", "replace")
        # The first delimiter has no line end before it.
        self._chunks, self._buffer = chunks, bytearray(b"\r\n")

    @staticmethod
    def suits(content_type: str) -> bool:
        """True if a request with this Content-Type header is a form with files."""
        return content_type.lower().lstrip().startswith("multipart/form-data")

    async def content(self) -> AsyncIterator[bytes]:
        """The bytes of the file.

        Raises:
            RefusedError: the form is malformed or incomplete (status 400), or has no file, several files, or
                too much else (422).
        """
        found, other = False, 0
        async for data in self._before(self._delimiter):
            other = _count_other(other, data)
        while (line := await self._take(2)) != b"--":
            header = await self._part_header(line)
            is_file, name = _file_of(header)
            if is_file and found:
                raise RefusedError(422, "the form holds several files; upload one file with each request")
            if is_file:
                found, self.name = True, name
            async for data in self._before(self._delimiter):
                if is_file:
                    yield data
                else:
                    other = _count_other(other, data)
        if not found:
            raise RefusedError(422, "the form holds no file; send one with: curl -F file=@talk.wav")

    async def _part_header(self, line: bytes) -> bytes:
        if line != b"\r\n":
            raise _invalid_form("a boundary does not end its line")
        # A part without headers begins with an empty line.
        self._buffer[:0] = b"\r\n"
        header = bytearray()
        async for data in self._before(b"\r\n\r\n"):
            header += data
            if len(header) > MAX_PART_HEADER:
                raise _invalid_form("the header of a part is too long")
        return bytes(header)

    async def _before(self, marker: bytes) -> AsyncIterator[bytes]:
        """Yield what comes before a marker, and skip the marker."""
        while (place := self._buffer.find(marker)) < 0:
            # The end of the buffer may be the beginning of the marker.
            ready = len(self._buffer) - len(marker) + 1
            if ready > 0:
                yield bytes(self._buffer[:ready])
                del self._buffer[:ready]
            await self._fill()
        if place:
            yield bytes(self._buffer[:place])
        del self._buffer[: place + len(marker)]

    async def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._fill()
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def _fill(self) -> None:
        try:
            self._buffer += await anext(self._chunks)
        except StopAsyncIteration:
            raise _invalid_form("it ends too early") from None


def _invalid_form(reason: str) -> RefusedError:
    return RefusedError(
        400,
        f"the form cannot be read: {reason}; send it with: curl -F file=@talk.wav, or send the file as body",
    )


def _count_other(count: int, data: bytes) -> int:
    if count + len(data) > MAX_OTHER_BYTES:
        raise RefusedError(422, "the form holds too much besides the file; send the file alone")
    return count + len(data)


def _file_of(header: bytes) -> tuple[bool, str]:
    """Whether a part of a form is a file, and its file name."""
    text = header.decode("utf-8", "replace")
    disposition = re.search(r"^content-disposition:([^\r\n]*)", text, re.IGNORECASE | re.MULTILINE)
    if disposition is None:
        return False, ""
    fields = disposition[1]
    if extended := re.search(r";\s*filename\*=utf-8'[^']*'([^\s;]+)", fields, re.IGNORECASE):
        return True, unquote(extended[1])
    if quoted := re.search(r';\s*filename="((?:[^"\\]|\\.)*)"', fields, re.IGNORECASE):
        # Browsers write a quotation mark as %22, curl as \".
        return True, quoted[1].replace('\\"', '"').replace("%22", '"')
    if plain := re.search(r";\s*filename=([^\s;]*)", fields, re.IGNORECASE):
        return True, plain[1]
    # `curl -F 'file=<talk.wav'` sends no file name.
    return re.search(r';\s*name="?file"?\s*(;|$)', fields, re.IGNORECASE) is not None, ""
