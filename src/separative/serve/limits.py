"""Limits of a server."""

from __future__ import annotations

from dataclasses import dataclass, fields

from separative.errors import SeparativeError


@dataclass(frozen=True)
class Limits:
    """Limits of a server; requests above them are refused.

    Attributes:
        megabytes: size of an uploaded recording.
        minutes: duration of an uploaded recording, by its header or by decoding.
        channels: number of channels of an uploaded recording.
        uploads: number of simultaneous uploads.
        waiting: number of jobs in the queue, besides the running one.
        job_minutes: running time of a job.
        keep_minutes: time from the last use of a recording or result until it is removed.
        gigabytes: size of all recordings and results together.
        kilobytes_per_second: lowest rate at which a request must arrive, after ``grace_seconds``. Time in
            which the server itself does not read is not counted.
        grace_seconds: time that a request may take more than the rate allows.

    Raises:
        SeparativeError: a limit is not positive.

    >>> Limits(megabytes=10).bytes
    10000000
    """

    megabytes: float = 200.0
    minutes: float = 60.0
    channels: int = 8
    uploads: int = 8
    waiting: int = 8
    job_minutes: float = 30.0
    keep_minutes: float = 30.0
    gigabytes: float = 4.0
    kilobytes_per_second: float = 30.0
    grace_seconds: float = 10.0

    # Highest sample rate in Hz. No speech recording needs more, and one second is decoded at once.
    max_rate = 192_000
    # Duration of an upload, from the first byte to the last.
    upload_seconds = 900.0
    # Size of the body of any other request.
    body_bytes = 1 << 18
    # Size of a transcript: that of an hour with times of words has about 1 MB.
    transcript_bytes = 8 << 20
    # Number of finished jobs that are kept; the oldest are removed first.
    results = 100

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise SeparativeError(f"{field.name} is {value}; a limit must be above 0")

    @property
    def bytes(self) -> int:
        """Size of an uploaded recording in bytes."""
        return round(self.megabytes * 1e6)

    @property
    def bytes_per_second(self) -> float:
        """Lowest rate at which a request must arrive."""
        return 1000 * self.kilobytes_per_second

    @property
    def samples(self) -> int:
        """Number of samples of all channels together: two channels at 48 kHz for the maximum duration."""
        return round(self.minutes * 60 * 48_000 * 2)
