"""The time line of a track: where each packet or frame lies, by its time stamp or after the one before."""

from __future__ import annotations

from separative.errors import AudioError

# A longer pause between time stamps is a jump of the clock (a file cut from a live stream, joined files).
LONGEST_GAP = 3600.0
# Stamps that go back by more than this start again; less is rounding or an overlap.
LONGEST_OVERLAP = 1.0
# All pauses of a file together. Damaged stamps could otherwise ask for years of silence.
LONGEST_SILENCE = 24 * 3600.0


class TrackClock:
    """Places pieces of audio on a time line that starts at 0.

    Args:
        origin: time stamp of the start of the time line in seconds.
        end: time in seconds at which the next piece without a stamp starts.

    >>> clock = TrackClock(origin=10.0)
    >>> clock.place(10.0, 0.02), clock.place(None, 0.02), clock.place(11.0, 0.02)
    (0.0, 0.02, 1.0)
    >>> round(clock.end, 2), clock.jumped
    (1.02, False)
    """

    def __init__(self, origin: float, end: float = 0.0) -> None:
        self.shift, self.end, self.silence, self.jumped = -origin, end, 0.0, False

    def place(self, stamp: float | None, seconds: float) -> float:
        """Return the start of the next piece on the time line.

        Args:
            stamp: its time stamp in seconds; None if it has none.
            seconds: its length.

        Raises:
            AudioError: the stamps leave more than a day without audio.
        """
        start = self.end if stamp is None else stamp + self.shift
        leap = start - self.end
        if not -LONGEST_OVERLAP <= leap <= LONGEST_GAP:
            self.shift -= leap
            self.jumped, start = True, self.end
        elif leap > 0:
            self.silence += leap
            if self.silence > LONGEST_SILENCE:
                raise AudioError("its time stamps are damaged, over a day of it holds no audio")
        self.end = max(self.end, start + seconds)
        return start
