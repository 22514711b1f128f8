"""A job's metrics over REST: as numbers and as a picture."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from control_plane.api.context import Here, Reader
from control_plane.api.pages import Text, answer
from control_plane.api.requests import StrictRoute
from control_plane.jobs import metrics, plot, service
from imts_shared.contracts.jobs import MetricSeries

router = APIRouter(prefix="/api/jobs", tags=["jobs"], route_class=StrictRoute)

DRAWN = ("loss", "evalLoss")
PLOTTED_POINTS = 600


@router.get(
    "/{job_id}/metrics",
    response_model=MetricSeries,
    operation_id="job_metrics",
    summary="A job's metric series by step, thinned to the points asked for",
)
async def job_metrics(
    here: Here,
    caller: Reader,
    job_id: str,
    names: Annotated[list[Text], Query(default_factory=list, description="Only these; may be given several times.")],
    points: Annotated[int, Query(ge=2, le=10_000)] = 1_000,
) -> Response:
    async with here.database.transaction() as session:
        row = await service.get(session, job_id, caller.project)
        return answer(await metrics.series(session, row.id, names, points))


@router.get(
    "/{job_id}/plot.svg",
    operation_id="job_plot",
    summary="A job's loss, or other metrics, drawn over its steps",
    response_class=Response,
    responses={200: {"content": {"image/svg+xml": {}}, "description": "The picture."}},
)
async def job_plot(
    here: Here,
    caller: Reader,
    job_id: str,
    names: Annotated[
        list[Text],
        Query(default_factory=list, max_length=6, description="Metrics to draw; by default loss and evalLoss."),
    ],
) -> Response:
    wanted = names or list(DRAWN)
    async with here.database.transaction() as session:
        row = await service.get(session, job_id, caller.project)
        series = await metrics.series(session, row.id, wanted, PLOTTED_POINTS)
    picture = plot.svg(series, wanted, f"{row.name or row.spec.get('modelName') or row.kind}: {', '.join(wanted)}")
    return Response(picture, media_type="image/svg+xml", headers={"Cache-Control": "no-store"})
