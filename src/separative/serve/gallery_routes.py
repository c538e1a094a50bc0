"""/api/gallery: who is enrolled, and jobs that enrol and find."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from separative.metrics import plane
from separative.serve import schemas, work
from separative.serve.job_routes import STARTED, start
from separative.serve.service import Service

MOST = 1000


def gallery_routes(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api/gallery", tags=["gallery"])
    gallery = service.gallery

    @router.get("")
    def who(
        count: Annotated[int, Query(ge=1, le=MOST, description="How many to list, at most.")] = MOST,
    ) -> schemas.GalleryOut:
        """Who is enrolled, and where a map of their embeddings shows them."""
        talkers = gallery.list()
        names, embed_NE = gallery.embeddings(count)
        place_N2, spread = plane(embed_NE)
        places = dict(zip(names, place_N2.tolist(), strict=True))
        listed = []
        for talker in talkers[:count]:
            x, y = places.get(talker.name, (None, None))
            listed.append(
                schemas.EnrolledOut(
                    name=talker.name,
                    recordings=talker.recordings,
                    seconds=talker.seconds,
                    added=talker.added,
                    metadata=talker.metadata,
                    x=x,
                    y=y,
                )
            )
        return schemas.GalleryOut(count=len(talkers), talkers=listed, spread=spread)

    @router.post("", status_code=202, responses=STARTED, tags=["jobs"])
    def add(asked: schemas.Add) -> schemas.JobOut:
        """Enrol a talker with recordings of theirs alone, or add these to a known one's."""
        return start(service, "add", asked.recordings, lambda job: work.add(job, gallery, asked))

    @router.post("/find", status_code=202, responses=STARTED, tags=["jobs"])
    def find(asked: schemas.Find) -> schemas.JobOut:
        """Whose voices are in a recording: enrolled talkers', or unknown."""
        return start(service, "find", [asked.recording], lambda job: work.find(job, gallery, asked))

    @router.delete(
        "/{name:path}",
        status_code=204,
        responses={
            404: {"model": schemas.Problem, "description": "No such talker."},
            507: {"model": schemas.Problem, "description": "The gallery cannot be written."},
        },
    )
    def remove(name: str) -> Response:
        """Remove a talker, from every file of the gallery."""
        gallery.remove(name)
        return Response(status_code=204)

    return router
