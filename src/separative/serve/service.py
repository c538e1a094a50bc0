"""What all routes share."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from separative.gallery import Gallery
from separative.serve.jobs import Jobs
from separative.serve.limits import Limits
from separative.serve.recordings import Recordings
from separative.serve.scratch import Scratch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """A gallery with its model, and the recordings and jobs of those who are here now."""

    gallery: Gallery
    limits: Limits
    scratch: Scratch
    recordings: Recordings
    jobs: Jobs

    def expire(self) -> None:
        self.recordings.expire()
        self.jobs.expire()

    def plain(self, sentence: str) -> str:
        """A sentence without the places of this machine."""
        folders = {self.gallery.folder: "the gallery", self.scratch.folder: "the server's folder"}
        for folder, words in folders.items():
            sentence = sentence.replace(str(folder), words)
        return sentence

    def close(self) -> None:
        """Stop working and remove all that is temporary."""
        self.jobs.close()
        self.scratch.close()
        self.gallery.close()
