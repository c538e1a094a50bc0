"""Routes for the result of a job: its files, corrections, transcript and enrolment (/api/jobs/{id}/...)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from separative import audio
from separative.errors import SeparativeError, choose
from separative.inference.transcript_files import INPUTS
from separative.serve import requests, responses, work
from separative.serve.diarized import SEPARATED, TRANSCRIPT_FORMATS, TURN_FORMATS, DiarizedRecording
from separative.serve.guard import RefusedError
from separative.serve.job_routes import JOB_ERRORS, START_ERRORS, job_out
from separative.serve.jobs import Job, Service
from separative.serve.results import DiarizeOut, PeaksOut
from separative.serve.uploads import UploadedRecording, clean_label

SpeakerNumber = Annotated[int, PathParameter(ge=1, le=1000, description="Number of a speaker, from 1.")]
Save = Annotated[bool, Query(description="Make browsers save the file instead of showing it.")]
Seconds = Annotated[float, Query(ge=0, le=1e6, allow_inf_nan=False, description="Time in seconds.")]

CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {
        "model": responses.ErrorOut,
        "description": "The result was changed in the meantime, or the job is not done.",
    }
}
ENROL_ERRORS: dict[int | str, dict[str, Any]] = {
    409: {
        "model": responses.ErrorOut,
        "description": "The speaker is already enrolled with this recording, or the job is not done.",
    },
    507: {"model": responses.ErrorOut, "description": "The gallery cannot be written."},
}
TRANSCRIPT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The transcript: JSON of Whisper or whisperX, SRT or WebVTT.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
TURNS_TYPES = {"json": "application/json", "csv": "text/csv", "vtt": "text/vtt", "eaf": "application/xml"}


def result_routes(service: Service) -> APIRouter:
    """Routes for the results of jobs.

    >>> from separative import load_model
    >>> from separative.serve import create_app
    >>> service = create_app(load_model(), "gallery").state.service
    >>> [route.path for route in result_routes(service).routes][:3]
    ['/api/jobs/{id}/corrections', '/api/jobs/{id}/recount', '/api/jobs/{id}/identify']
    >>> service.close()
    """
    router = APIRouter(prefix="/api/jobs/{id}", tags=["jobs"], responses=JOB_ERRORS)

    @router.post("/corrections", responses=CONFLICT)
    def correct(id: str, request: requests.CorrectIn) -> DiarizeOut:
        """Correct a speaker or a turn of a diarized recording, or undo the last correction.

        All files, the transcript and enrolments follow the corrections.
        """
        recording = _diarized(service.jobs.get(id))
        service.uploads.check_space(round(2 * recording.found.seconds * recording.found.rate))
        return recording.edit(request)

    @router.post("/recount", status_code=202, responses=START_ERRORS | CONFLICT)
    def recount(id: str, request: requests.RecountIn) -> responses.JobOut:
        """Diarize the recording again with another number of speakers, in a new job.

        The outputs of the network are used again, so that only the separation is repeated.
        """
        job = service.jobs.get(id)
        found = _diarized(job).found
        source = UploadedRecording(job.id, job.labels[0], job.sources[0], audio.info(job.sources[0]))
        service.uploads.check_space()
        body = requests.DiarizeIn(recording=job.id, speakers=request.speakers, prior=request.prior)
        return job_out(
            service,
            service.jobs.submit("diarize", [source], lambda new: work.diarize(new, service, body, found)),
        )

    @router.post("/identify", responses=CONFLICT)
    def identify(id: str) -> DiarizeOut:
        """Identify the speakers again, after the gallery has changed."""
        return _diarized(service.jobs.get(id)).identify_again()

    @router.post("/speakers/{number}/enrol", status_code=201, responses=ENROL_ERRORS)
    def enrol(id: str, number: SpeakerNumber, request: requests.EnrolIn) -> responses.QualityOut:
        """Enrol a speaker of a diarized recording, or add the recording to an enrolled speaker.

        Corrections are respected. The recording is refused, with reasons, if it has too little speech, too
        much speech of others, or clipping.
        """
        recording = _diarized(service.jobs.get(id))
        place, diarization = recording.place(number), recording.diarization
        quality = service.gallery.add_from_diarization(
            request.name, diarization, place, metadata=request.metadata, force=request.force
        )
        return responses.QualityOut(**asdict(quality))

    @router.post("/transcript", responses=CONFLICT, openapi_extra=TRANSCRIPT_BODY)
    async def add_transcript(
        id: str,
        request: Request,
        name: Annotated[str, Query(max_length=1000, description="File name of the transcript.")],
    ) -> DiarizeOut:
        """Add a transcript to a diarized recording: each word gets a speaker."""
        job = service.jobs.get(id)
        recording, content, label = _diarized(job), await request.body(), clean_label(name)

        def read() -> DiarizeOut:
            suffix = choose(Path(label).suffix.lower(), INPUTS, f"suffix of {label}:")
            path = job.folder / f"transcript{suffix}"
            path.write_bytes(content)
            try:
                return recording.add_transcript(path)
            except SeparativeError as error:
                raise RefusedError(422, str(error).replace(str(path), label)) from error

        return await run_in_threadpool(read)

    @router.get("/peaks", responses=CONFLICT)
    def peaks(
        id: str,
        start: Seconds,
        end: Seconds,
        speaker: Annotated[int, Query(ge=0, le=1000, description="Number of a speaker; 0: mixture.")] = 0,
        count: Annotated[int, Query(ge=1, le=4000, description="About how many peaks to return.")] = 1000,
    ) -> PeaksOut:
        """Get the peaks of a waveform in a part of the recording."""
        return _diarized(service.jobs.get(id)).peaks(speaker, start, end, count)

    @router.get("/mixture.wav", response_class=FileResponse, responses=_content("audio/wav"))
    def mixture(id: str, save: Save = False) -> FileResponse:
        """Get the processed mixture: one channel, synchronous with the speakers' waveforms."""
        job = service.jobs.get(id)
        path = _diarized(job, 404).waveform(0)
        return _file(path, job, path.name, save)

    @router.get("/speakers/{number}.wav", response_class=FileResponse, responses=_content("audio/wav"))
    def speaker(id: str, number: SpeakerNumber, save: Save = False) -> FileResponse:
        """Get the waveform of one speaker."""
        job, name = service.jobs.get(id), f"speaker{number}"
        if (recording := job.diarized) is not None:
            path = recording.waveform(number)
            name = recording.diarization.speakers[recording.place(number)].name
        else:
            path = job.folder / f"{SEPARATED}-{name}.wav"
        return _file(path, job, f"{name}.wav", save)

    @router.get("/meeting.{format}", responses=_content("text/plain"))
    def turns(id: str, format: str, save: Save = False) -> Response:
        """Get the turns as rttm, csv, srt, vtt, audacity, textgrid, eaf or json."""
        job = service.jobs.get(id)
        recording = _diarized(job, 404)
        if format not in TURN_FORMATS:
            raise RefusedError(404, f"no format '{format}'; valid: {', '.join(TURN_FORMATS)}")
        ending, content = recording.turns_file(format)
        kind = TURNS_TYPES.get(format, "text/plain")
        return Response(content, media_type=kind, headers=_disposition(job, f"meeting{ending}", save))

    @router.get("/transcript.{format}", responses=_content("text/plain"))
    def transcript(id: str, format: str, save: Save = False) -> Response:
        """Get the transcript with speakers as json, srt, txt or vtt."""
        job = service.jobs.get(id)
        recording = _diarized(job, 404)
        if format not in TRANSCRIPT_FORMATS:
            raise RefusedError(404, f"no format '{format}'; valid: {', '.join(TRANSCRIPT_FORMATS)}")
        content, kind = recording.transcript_file(format), TURNS_TYPES.get(format, "text/plain")
        return Response(content, media_type=kind, headers=_disposition(job, f"transcript.{format}", save))

    return router


def _diarized(job: Job, status: int = 409) -> DiarizedRecording:
    """The diarized recording of a job."""
    if job.diarized is None or job.state != "done":
        raise RefusedError(status, "the job has no speakers; start a diarize job and wait until it is done")
    return job.diarized


def _content(media_type: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI description of a response that is a file."""
    schema = {"type": "string"} if media_type == "text/plain" else {"type": "string", "format": "binary"}
    return {200: {"content": {media_type: {"schema": schema}}}}


def _file(path: Path, job: Job, name: str, save: bool) -> FileResponse:
    """Response with an audio file of a job, named after the recording. It supports range requests."""
    if job.state != "done" or not path.is_file():
        raise RefusedError(404, "the job has no such file; only finished jobs have files")
    return FileResponse(path, media_type="audio/wav", headers=_disposition(job, name, save))


def _disposition(job: Job, name: str, save: bool) -> dict[str, str]:
    """Header that names a file after the recording."""
    stem = Path(job.labels[0]).stem or "recording"
    shown = f"{stem}-{name}".replace("/", "_").replace("\\", "_")
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_. ") else "_" for c in shown)
    kind = "attachment" if save else "inline"
    return {"Content-Disposition": f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(shown, safe='')}"}
