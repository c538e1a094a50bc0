"""Styles of conversations: how the speakers of meetings, calls, broadcasts and other recordings take turns.

The numbers follow published statistics of recorded conversations:

- The time from the end of a turn to the start of the next speaker's turn has its mode near 200 ms and a long
  right tail, and is negative (an overlap) in 30 to 40 % of the changes: Heldner and Edlund, "Pauses, gaps
  and overlaps in conversations", J. Phonetics 38 (2010); Levinson and Torreira, "Timing in turn-taking",
  Frontiers in Psychology 6 (2015), on Switchboard. Reece and others, "The CANDOR corpus", Science Advances 9
  (2023), find a median of 80 ms in video calls, and about 1,000 backchannels per hour of speech.
- Meetings (ICSI) and telephone calls (Switchboard, CALLHOME) overlap at similar rates: Shriberg, Stolcke and
  Baron, "Observations on overlap", Eurospeech (2001). Overlap is about a tenth of the speech, more in lively
  parts (Çetin and Shriberg, MLMI 2006). Its duration is about log-normal: Laskowski, Heldner and Edlund, "On
  the dynamics of overlap in multi-party conversation", Interspeech (2012).
- Turns are often shorter than a second, and participation is uneven.

The values were then adjusted to short excerpts of real meetings and a broadcast. In the meeting excerpts, a
quarter of the speech is overlapped, and annotators left pauses of up to a second inside turns.
``benchmarks/bench_simulation.py`` compares the errors of several systems on simulated and real recordings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# ``plain`` conversations have the settings of a ConversationConfig instead of those of a Style.
StyleName = Literal["plain", "meeting", "call", "interview", "broadcast", "clips"]


@dataclass(frozen=True, slots=True)
class Style:
    """How speakers take turns, and how they are recorded. All durations are in seconds.

    Attributes:
        speakers: usual number of speakers.
        lead: planning starts this long before the recording, so that it may begin in the middle of a turn.
        participation: concentration of the Dirichlet distribution of the speakers' shares; low is uneven.
        turn: median of the log-normal length of a turn.
        turn_spread: standard deviation of the logarithm of that length.
        short: share of turns of 0.3 to 1 s, such as answers and reactions.
        short_again: share of short turns after a short turn, so that short turns form chains.
        hold: share of turns after which the same speaker continues after a pause.
        back: share of other changes that give the turn back to the speaker before the last one.
        rotate: share of the remaining changes that give the turn to whoever has been silent for longest.
        gap: mean and standard deviation of the normal part, and mean of the exponential part, of the time
            between two turns of different speakers (an ex-Gaussian distribution).
        pause: median of the log-normal pause before the same speaker continues.
        interruption: share of changes in which the next speaker interrupts.
        parallel: share of turns during which another speaker says a whole turn.
        backchannels: backchannels (0.2 to 0.8 s) per minute of turns.
        silences: silences per minute; each lasts ``silence``.
        silence: shortest and longest silence, drawn log-uniformly.
        muted: share of silences in which the recording is digital zero.
        breath: share of turns that start after an audible breath.
        laughter: laughs per minute; a laugh is of one speaker or of several.
        breaks: shortest and longest pause between the phrases of a turn, drawn uniformly.
        bridge: pauses of a speaker that are shorter are part of the reference, as human annotators have it.
        level_db: level of each speaker relative to the common level, drawn uniformly.
        change_db: standard deviation of the level and of the treble of a voice within a recording; see
            :func:`~separative.mixtures.voices.vary_voice`.
        even: give all speakers of a recording one long-term spectrum, as of one microphone; see
            :func:`~separative.mixtures.voices.even_spectra`.
        distance_m: distance of each speaker from the microphone; None for no room.
        rt60: reverberation time of the room.
        noises: kinds of background noise; one is drawn for a recording.
        noise_db: speech over background noise, drawn uniformly.
        microphones: kinds of microphones; one is drawn for a recording.

    >>> STYLES["call"].microphones
    ('telephone',)
    """

    speakers: int
    lead: float
    participation: float
    turn: float
    turn_spread: float
    short: float
    short_again: float
    hold: float
    back: float
    rotate: float
    gap: tuple[float, float, float]
    pause: float
    interruption: float
    parallel: float
    backchannels: float
    silences: float
    silence: tuple[float, float]
    muted: float
    breath: float
    laughter: float
    breaks: tuple[float, float]
    bridge: float
    level_db: tuple[float, float]
    change_db: tuple[float, float]
    even: bool
    distance_m: tuple[float, float] | None
    rt60: tuple[float, float]
    noises: tuple[str, ...]
    noise_db: tuple[float, float]
    microphones: tuple[str, ...]


STYLES: dict[StyleName, Style] = {
    "meeting": Style(
        speakers=4,
        lead=30.0,
        participation=0.6,
        turn=2.5,
        turn_spread=1.15,
        short=0.32,
        short_again=0.5,
        hold=0.4,
        back=0.4,
        rotate=0.0,
        gap=(0.05, 0.3, 0.35),
        pause=0.8,
        interruption=0.25,
        parallel=0.35,
        backchannels=6.0,
        silences=2.7,
        silence=(3.0, 120.0),
        muted=0.1,
        breath=0.2,
        laughter=0.5,
        breaks=(0.2, 1.0),
        bridge=1.0,
        level_db=(-12.0, 2.0),
        change_db=(3.0, 4.0),
        even=True,
        distance_m=(0.3, 2.0),
        rt60=(0.3, 0.7),
        noises=("room", "fan", "hum", "any"),
        noise_db=(15.0, 45.0),
        microphones=("distant", "close"),
    ),
    "call": Style(
        speakers=2,
        lead=30.0,
        participation=2.0,
        turn=2.0,
        turn_spread=0.9,
        short=0.3,
        short_again=0.5,
        hold=0.3,
        back=0.0,
        rotate=0.0,
        gap=(-0.1, 0.3, 0.35),
        pause=0.6,
        interruption=0.08,
        parallel=0.02,
        backchannels=10.0,
        silences=0.3,
        silence=(1.5, 60.0),
        muted=0.5,
        breath=0.3,
        laughter=0.3,
        breaks=(0.1, 0.5),
        bridge=0.3,
        level_db=(-4.0, 4.0),
        change_db=(1.5, 2.0),
        even=False,
        distance_m=None,
        rt60=(0.3, 0.6),
        noises=("room", "hum", "any"),
        noise_db=(20.0, 40.0),
        microphones=("telephone",),
    ),
    "interview": Style(
        speakers=2,
        lead=30.0,
        participation=4.0,
        turn=6.0,
        turn_spread=0.8,
        short=0.15,
        short_again=0.3,
        hold=0.2,
        back=0.0,
        rotate=0.0,
        gap=(0.15, 0.2, 0.3),
        pause=0.6,
        interruption=0.05,
        parallel=0.01,
        backchannels=4.0,
        silences=0.2,
        silence=(1.0, 30.0),
        muted=0.1,
        breath=0.4,
        laughter=0.2,
        breaks=(0.1, 0.4),
        bridge=0.5,
        level_db=(-4.0, 4.0),
        change_db=(2.0, 2.0),
        even=True,
        distance_m=(0.2, 1.0),
        rt60=(0.2, 0.5),
        noises=("room", "fan", "any"),
        noise_db=(15.0, 35.0),
        microphones=("close", "broadcast"),
    ),
    "broadcast": Style(
        speakers=4,
        lead=30.0,
        participation=20.0,
        turn=7.0,
        turn_spread=0.3,
        short=0.0,
        short_again=0.0,
        hold=0.0,
        back=0.3,
        rotate=0.8,
        gap=(0.0, 0.1, 0.1),
        pause=0.2,
        interruption=0.03,
        parallel=0.0,
        backchannels=0.1,
        silences=0.05,
        silence=(1.0, 10.0),
        muted=0.0,
        breath=0.4,
        laughter=0.2,
        breaks=(0.05, 0.3),
        bridge=2.0,
        level_db=(-3.0, 3.0),
        change_db=(1.0, 1.0),
        even=False,
        distance_m=None,
        rt60=(0.2, 0.4),
        noises=("room", "music"),
        noise_db=(30.0, 50.0),
        microphones=("broadcast",),
    ),
    "clips": Style(
        speakers=3,
        lead=0.0,
        participation=20.0,
        turn=4.9,
        turn_spread=0.2,
        short=0.0,
        short_again=0.0,
        hold=0.0,
        back=0.0,
        rotate=1.0,
        gap=(2.0, 0.2, 0.0),
        pause=1.5,
        interruption=0.0,
        parallel=0.0,
        backchannels=0.0,
        silences=0.0,
        silence=(1.0, 10.0),
        muted=0.0,
        breath=0.0,
        laughter=0.0,
        breaks=(0.05, 0.3),
        bridge=2.0,
        level_db=(-3.0, 3.0),
        change_db=(0.0, 0.0),
        even=False,
        distance_m=None,
        rt60=(0.2, 0.4),
        noises=("room", "any"),
        noise_db=(25.0, 45.0),
        microphones=("close",),
    ),
}
