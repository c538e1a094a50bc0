"""Known speakers, of a gallery or enrolled for one call: they name the speakers of recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from separative.errors import GalleryError, NotEnrolledError
from separative.gallery.enrolment import EnrolmentQuality
from separative.gallery.gallery import SCORED_CANDIDATES, Gallery
from separative.gallery.records import check_name
from separative.inference import Diarization
from separative.inference.evidence import same_speaker_cosine
from separative.inference.identities import (
    Identification,
    identify_from_scores,
    name_speakers,
    rename_speakers,
    speaker_labels,
    unique_name,
)
from separative.inference.recording import MIN_SPEECH_SECONDS
from separative.metrics import log_odds
from separative.names import near_twins
from separative.types import Floats, Wave

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder

# An unknown speaker needs this much speech to be enrolled. It is more than for `Gallery.add`, because the
# speaker may be an error of the diarization.
MIN_UNKNOWN_SECONDS = 5.0


class KnownSpeakers:
    """The enrolled speakers with which the speakers of recordings are compared.

    Args:
        model: the model of the recordings and of the gallery.
        gallery: an open gallery, or None.
        embeddings: embeddings of more speakers by name, [E] each, from
            :func:`separative.inference.verify.embed_speaker`.
        prior: probability that a speaker of a recording is a known one.

    Raises:
        GalleryError: a name is in the gallery and in ``embeddings``, or it is not one line.
        SeparativeError: the prior is not between 0 and 1.

    >>> import separative
    >>> from separative.inference.verify import embed_speaker
    >>> model = separative.load_model()
    >>> known = KnownSpeakers(model, embeddings={"Ann": embed_speaker(model, "ann.wav")})
    >>> known.rename(separative.diarize(model, "ann-2.wav")).speakers[0].name
    'Ann'
    """

    def __init__(
        self,
        model: SeparativeEncoder,
        *,
        gallery: Gallery | None = None,
        embeddings: Mapping[str, Wave] | None = None,
        prior: float = 0.5,
    ) -> None:
        log_odds(prior)
        self.model, self.gallery, self.prior = model, gallery, prior
        self.embeddings = {check_name(name): embedding for name, embedding in (embeddings or {}).items()}
        in_gallery = {speaker.name for speaker in gallery.list()} if gallery else set()
        if gallery and (twice := sorted(in_gallery & set(self.embeddings))):
            raise GalleryError(
                f"'{twice[0]}' is in the gallery {gallery.folder} too; use another name, or add the recording"
                f" with: separative gallery add {gallery.folder} '{twice[0]}' FILE"
            )
        self.warnings = [
            f"{' and '.join(repr(name) for name in names)} differ only in capital letters and blanks; if they"
            " are the same speaker, use one name"
            for names in near_twins(in_gallery | set(self.embeddings))
            if set(names) & set(self.embeddings)
        ]

    def __len__(self) -> int:
        return len(self.embeddings) + (len(self.gallery) if self.gallery else 0)

    def identify(self, embeddings: Sequence[Floats], seconds: Sequence[float]) -> list[Identification]:
        """Identify all speakers of a recording together: one known speaker is at most one of them.

        Args:
            embeddings: embedding [E] of each speaker of the recording.
            seconds: speech of each; with less than MIN_SPEECH_SECONDS a speaker is unknown.
        """
        count = len(self)
        alone = [
            identify_from_scores(
                self.model, self._scores(embedding) if speech >= MIN_SPEECH_SECONDS else (), count, self.prior
            )
            for embedding, speech in zip(embeddings, seconds, strict=True)
        ]
        return name_speakers(self.model, alone, count, self.prior)

    def identify_in(self, *diarizations: Diarization) -> list[Identification]:
        """Identify all speakers of a recording, or of all its channels (see :meth:`identify`)."""
        speakers = [speaker for diarization in diarizations for speaker in diarization.speakers]
        return self.identify([s.embedding for s in speakers], [s.speech_seconds for s in speakers])

    def rename(self, diarization: Diarization) -> Diarization:
        """Return the diarization with the names of the known speakers; unknown speakers keep theirs."""
        names = [found.name for found in self.identify_in(diarization)]
        labels = [speaker.name for speaker in diarization.speakers]
        return rename_speakers(diarization, speaker_labels(labels, names))

    def enrol_unknown(
        self, diarization: Diarization, found: Sequence[Identification], recording: str
    ) -> dict[int, tuple[str, EnrolmentQuality]]:
        """Enrol the unknown speakers of a recording in the gallery, so that they are known from then on.

        A speaker is enrolled with MIN_UNKNOWN_SECONDS of speech or more, if the quality suffices
        (:meth:`Gallery.add_from_diarization`). A speaker who is probably enrolled is left out, also if
        another speaker of the recording has the name.

        Args:
            found: the identity of each speaker, from :meth:`identify`.
            recording: beginning of the names, such as "meeting" for "meeting-speaker1".

        Returns:
            By index of the speaker, the new name and the quality.

        Raises:
            GalleryError: there is no gallery, or it cannot be written.
        """
        if self.gallery is None:
            raise GalleryError("unknown speakers can only be enrolled in a gallery; name one")
        taken = {speaker.name for speaker in self.gallery.list()} | set(self.embeddings)
        enrolled = {}
        for number, (speaker, who) in enumerate(zip(diarization.speakers, found, strict=True)):
            if (
                who.name is not None
                or speaker.speech_seconds < MIN_UNKNOWN_SECONDS
                or self._is_probably_known(who)
            ):
                continue
            name = unique_name(check_name(f"{recording}-{speaker.name}"), taken)
            metadata = {"recording": recording, "speaker": speaker.name}
            try:
                quality = self.gallery.add_from_diarization(name, diarization, number, metadata=metadata)
            except NotEnrolledError:
                continue
            taken.add(name)
            enrolled[number] = (name, quality)
        return enrolled

    def _is_probably_known(self, who: Identification) -> bool:
        """Whether the best candidate is more probable than an unknown speaker."""
        if not who.candidates:
            return False
        best = who.candidates[0]
        if best.probability is None or who.unknown_probability is None:
            return best.score > same_speaker_cosine(self.model)
        return best.probability > who.unknown_probability

    def _scores(self, embedding: Floats) -> list[tuple[str, float]]:
        """Names and cosines of the nearest known speakers."""
        own = [(name, float(np.dot(known, embedding))) for name, known in self.embeddings.items()]
        return own + list(self.gallery.search(embedding, SCORED_CANDIDATES) if self.gallery else ())
