"""The picture of a job's loss."""

from datetime import UTC, datetime
from xml.etree import ElementTree

import httpx

from control_plane.jobs.plot import svg
from imts_shared.contracts.jobs import MetricPoint, MetricSeries
from tests.control_plane.test_jobs import submit

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def series(*values: float | None) -> MetricSeries:
    points = [MetricPoint(step=n, at=NOW, values={"loss": value}) for n, value in enumerate(values, 1)]
    return MetricSeries(points=points, of=len(points), names=["loss"])


def test_a_falling_loss_falls_in_the_picture() -> None:
    drawn = ElementTree.fromstring(svg(series(3.0, 2.0, None, float("nan"), 1.0), ["loss"], "a < b"))
    line = drawn.find("{http://www.w3.org/2000/svg}polyline")
    assert line is not None
    heights = [float(place.split(",")[1]) for place in line.attrib["points"].split()]
    assert len(heights) == 3
    assert heights == sorted(heights)


def test_nothing_and_one_point_are_pictures_too() -> None:
    assert "no points yet" in svg(series(), ["loss"], "t")
    assert "polyline" in svg(series(2.0), ["loss"], "t")


async def test_the_endpoint(admin: httpx.AsyncClient) -> None:
    job = await submit(admin)
    answer = await admin.get(f"/api/jobs/{job['id']}/plot.svg")
    assert answer.headers["content-type"].startswith("image/svg+xml")
    ElementTree.fromstring(answer.text)
