"""The operations that jobs run: the commands of the command line, on uploaded recordings."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from separative import audio, inference
from separative.gallery import Gallery, Identification
from separative.inference import Diarization
from separative.inference.confidence import rate_turns
from separative.inference.diarize import assign_speakers
from separative.inference.long_recordings import embed_long, is_long
from separative.inference.output import describe_recording
from separative.inference.recording import BlockReader
from separative.serve import requests, responses
from separative.serve.diarized import MIXTURE_FILE, SEPARATED, DiarizedRecording
from separative.serve.jobs import Job, Service
from separative.serve.results import DiarizeOut, IdentityOut

if TYPE_CHECKING:
    from separative.model import SeparativeEncoder


def diarize(
    job: Job, service: Service, request: requests.DiarizeIn, earlier: Diarization | None = None
) -> DiarizeOut:
    """Diarize a recording, identify its speakers, and write the mixture and each speaker's waveform to files.

    Args:
        earlier: diarization of the same recording; the outputs of the network are taken from it.

    >>> from pathlib import Path
    >>> from separative import audio, load_model
    >>> from separative.serve import create_app
    >>> from separative.serve.uploads import UploadedRecording
    >>> service = create_app(load_model(), "gallery").state.service
    >>> ann = UploadedRecording("3f2a", "ann.wav", Path("ann.wav"), audio.info("ann.wav"))
    >>> job = Job("diarize", Path("job"), [ann], 60)
    >>> len(diarize(job, service, requests.DiarizeIn(recording="3f2a", speakers=1)).speakers)
    1
    >>> sorted(path.name for path in Path("job").glob("*.wav"))
    ['mixture.wav', 'separated-speaker1.wav']
    >>> service.close()
    """
    gallery, source = service.gallery, job.sources[0]
    progress = job.report("diarizing", 0.0, 0.5)
    if earlier is None:
        diarization = inference.diarize(
            gallery.model,
            source,
            speakers=request.speakers,
            channels=request.channels,
            progress=progress,
        )
    else:
        speakers, window_speaker = assign_speakers(gallery.model, earlier.windows, speakers=request.speakers)
        recounted = replace(
            earlier,
            name=str(source),
            source=source,
            speakers=speakers,
            window_speaker=window_speaker,
            asked_speakers=request.speakers,
        )
        # The probabilities of the numbers of speakers are those of the recording alone.
        diarization = replace(
            rate_turns(gallery.model, recounted), count_probability=earlier.count_probability
        )
    # The mixture and the waveform of each speaker, with 16 bits per sample.
    waveform_bytes = round(2 * diarization.seconds * diarization.rate)
    service.uploads.check_space(waveform_bytes * (1 + len(diarization.speakers)))
    inference.write_speakers(
        gallery.model,
        diarization,
        job.folder,
        SEPARATED,
        active_only=request.active_only,
        progress=job.report("separating", 0.5, 0.95),
    )
    job.report("finishing")
    _write_mixture(job, diarization, job.folder / MIXTURE_FILE)
    job.diarized = DiarizedRecording(job.folder, job.labels[0], gallery, diarization, request.prior)
    return job.diarized.out()


def separate(job: Job, model: SeparativeEncoder, request: requests.RecordingIn) -> responses.StreamsOut:
    """Separate a recording and write the waveform of each audible stream to a file.

    >>> from pathlib import Path
    >>> from separative import audio, load_model
    >>> from separative.serve.uploads import UploadedRecording
    >>> ann = UploadedRecording("3f2a", "ann.wav", Path("ann.wav"), audio.info("ann.wav"))
    >>> job = Job("separate", Path("job"), [ann], 60)
    >>> separate(job, load_model(), requests.RecordingIn(recording="3f2a")).recording
    'ann.wav'
    >>> Path("job/separated-speaker1.wav").exists()
    True
    """
    job.report("separating")
    source, channels = job.sources[0], request.channels
    if is_long(source):
        # The waveforms of a long recording need not be in memory together.
        recording, diarization = embed_long(model, source, channels)
        inference.write_speakers(model, diarization, job.folder, SEPARATED)
    else:
        recording = inference.separate(model, source, channels=channels)
        inference.write_waveforms(recording, job.folder, SEPARATED)
    return responses.StreamsOut(**describe_recording(replace(recording, name=job.labels[0])))


def embed(job: Job, model: SeparativeEncoder, request: requests.RecordingIn) -> responses.StreamsOut:
    """Embed each audible stream of a recording.

    >>> from pathlib import Path
    >>> from separative import audio, load_model
    >>> from separative.serve.uploads import UploadedRecording
    >>> ann = UploadedRecording("3f2a", "ann.wav", Path("ann.wav"), audio.info("ann.wav"))
    >>> job = Job("embed", Path("job"), [ann], 60)
    >>> "embedding" in embed(job, load_model(), requests.RecordingIn(recording="3f2a")).speakers[0]
    True
    """
    job.report("embedding")
    recording = inference.embed(model, job.sources[0], channels=request.channels)
    return responses.StreamsOut(**describe_recording(replace(recording, name=job.labels[0]), embeddings=True))


def verify(job: Job, model: SeparativeEncoder, request: requests.VerifyIn) -> responses.VerifyOut:
    """Compare the speakers of two sides.

    >>> from pathlib import Path
    >>> from separative import audio, load_model
    >>> from separative.serve.uploads import UploadedRecording
    >>> ann = UploadedRecording("3f2a", "ann.wav", Path("ann.wav"), audio.info("ann.wav"))
    >>> job = Job("verify", Path("job"), [ann, ann], 60)
    >>> round(verify(job, load_model(), requests.VerifyIn(left=["3f2a"], right=["3f2a"])).score, 3)
    1.0
    """
    job.report("comparing")
    left, right = job.sources[: len(request.left)], job.sources[len(request.left) :]
    found = inference.verify(model, left, right, prior=request.prior, channels=request.channels)
    return responses.VerifyOut(**asdict(found))


def add(job: Job, gallery: Gallery, request: requests.AddIn) -> responses.AddOut:
    """Enrol a speaker with recordings of this speaker alone: with all of them or with none.

    >>> from pathlib import Path
    >>> from separative import audio, load_model
    >>> from separative.serve.uploads import UploadedRecording
    >>> ann = UploadedRecording("3f2a", "ann.wav", Path("ann.wav"), audio.info("ann.wav"))
    >>> job = Job("add", Path("job"), [ann], 60)
    >>> with Gallery("gallery", load_model()) as gallery:
    ...     result = add(job, gallery, requests.AddIn(name="Ada", recordings=["3f2a"], force=True))
    ...     [speaker.name for speaker in gallery.list()]
    ['Ada']
    """
    qualities, recordings = [], []
    for number, (source, label) in enumerate(zip(job.sources, job.labels, strict=True)):
        share = 1 / len(job.sources)
        quality, recording = gallery.embed_recording(
            source,
            keep_audio=request.keep_audio,
            force=request.force,
            label=label,
            progress=job.report("embedding", number * share, (number + 1) * share),
        )
        qualities.append(responses.QualityOut(**asdict(quality)))
        recordings.append(recording)
    # A job that fails or is cancelled has enrolled no recording, so the client can repeat it.
    job.check()
    warnings = gallery.enrol(request.name, recordings, request.metadata)
    return responses.AddOut(name=request.name, recordings=qualities, warnings=list(warnings))


def find(job: Job, gallery: Gallery, request: requests.FindIn) -> responses.FindOut:
    """Identify the speakers of a recording among the enrolled speakers.

    >>> from pathlib import Path
    >>> from separative import audio, load_model
    >>> from separative.serve.uploads import UploadedRecording
    >>> ann = UploadedRecording("3f2a", "ann.wav", Path("ann.wav"), audio.info("ann.wav"))
    >>> job = Job("find", Path("job"), [ann], 60)
    >>> with Gallery("gallery", load_model()) as gallery:
    ...     find(job, gallery, requests.FindIn(recording="3f2a")).speakers[0].identity.candidates
    []
    """
    diarization = inference.diarize(gallery.model, job.sources[0], progress=job.report("diarizing"))
    speakers = [
        responses.FoundSpeakerOut(
            name=speaker.name,
            speech_seconds=speaker.speech_seconds,
            identity=_identity(gallery.identify_speaker(speaker, count=request.count, prior=request.prior)),
        )
        for speaker in diarization.speakers
    ]
    return responses.FindOut(recording=job.labels[0], speakers=speakers)


def _identity(found: Identification) -> IdentityOut:
    return IdentityOut(**asdict(found))


def _write_mixture(job: Job, diarization: inference.Diarization, path: Path) -> None:
    """Write the channel that was diarized, as far as it can be decoded.

    The file is as long as the speakers' waveforms and synchronous with them.
    """
    blocks = BlockReader(diarization.source, diarization.rate, diarization.channel_policy)
    with audio.writer(path, diarization.rate) as write:
        for block_N in blocks:
            job.check()
            write(block_N)
