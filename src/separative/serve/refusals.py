"""Why a request is not done: sentences with a status code, and nothing of the server's insides."""

from __future__ import annotations

import errno
import sqlite3

from separative.errors import (
    AudioError,
    GalleryError,
    MissingExtraError,
    NotEnrolledError,
    SeparativeError,
    UnknownTalkerError,
)


class RefusedError(SeparativeError):
    """A request that is refused: the HTTP ``status``, and seconds after which to ``retry``, if that helps."""

    def __init__(self, status: int, sentence: str, retry: int | None = None) -> None:
        self.status, self.retry = status, retry
        super().__init__(sentence)


def status_of(error: Exception) -> int:
    """The HTTP status that fits an error."""
    if isinstance(error, RefusedError):
        return error.status
    if isinstance(error, UnknownTalkerError):
        return 404
    if isinstance(error, MissingExtraError):
        return 501
    if isinstance(error, NotEnrolledError | AudioError):
        return 422
    if isinstance(error, GalleryError):
        # The gallery's disk is full or read-only, or another writer holds it.
        if isinstance(error.__cause__, sqlite3.OperationalError):
            return 507
        # Enrolled with that recording already.
        return 409 if isinstance(error.__cause__, sqlite3.IntegrityError) else 422
    if isinstance(error, SeparativeError):
        return 422
    if isinstance(error, OSError):
        return 507
    return 500


def sentence_of(error: Exception) -> str:
    """What a user is told; paths are the caller's to replace."""
    if isinstance(error, SeparativeError):
        return str(error)
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return "the server's disk is full" if full else "the server cannot write or read its files"
    return "something went wrong inside the server; its log says what"
