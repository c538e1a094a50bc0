"""How much a server takes before it says no."""

from __future__ import annotations

from dataclasses import dataclass, fields

from separative.errors import SeparativeError


@dataclass(frozen=True)
class Limits:
    """What a server takes at most.

    ``megabytes`` of an upload · ``minutes`` it may last, by its header or by what can be decoded ·
    ``channels`` it may have · ``uploads`` on their way at once · ``waiting`` jobs behind the one that runs ·
    ``job_minutes`` of a job · ``keep_minutes`` after the last use of a recording or a result, until it is
    removed · ``gigabytes`` of all that is kept.

    Raises:
        SeparativeError: a limit that is not above 0.
    """

    megabytes: float = 200.0
    minutes: float = 60.0
    channels: int = 8
    uploads: int = 8
    waiting: int = 8
    job_minutes: float = 30.0
    keep_minutes: float = 30.0
    gigabytes: float = 4.0

    # A rate beyond it is no recording of speech, and blocks of a second are decoded.
    highest_rate = 192_000
    # Of an upload from beginning to end, and of the text of any other request.
    upload_seconds = 900.0
    text_bytes = 1 << 18
    # Results that wait to be fetched; beyond it, the oldest go.
    results = 100

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise SeparativeError(f"{field.name} {getattr(self, field.name)}: a limit is above 0")

    @property
    def bytes(self) -> int:
        return round(self.megabytes * 1e6)

    @property
    def samples(self) -> int:
        """Of all channels together: as many as two channels at 48 kHz have in the longest recording."""
        return round(self.minutes * 60 * 48_000 * 2)
