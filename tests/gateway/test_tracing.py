"""Traces, as a collector gets them."""

import asyncio
from pathlib import Path

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.conftest import free_port
from tests.gateway.conftest import gateway_process
from tests.gateway.engines import engine, refusing
from tests.gateway.platform_side import platform, provider, served, serving

CHAT = "/v1/chat/completions"
TRACE = "0af7651916cd43dd8448eb211c80319c"


async def test_a_request_and_its_tries_are_one_trace(tmp_path: Path) -> None:
    spans: list[Span] = []

    async def collect(request: web.Request) -> web.Response:
        told = ExportTraceServiceRequest.FromString(await request.read())
        spans.extend(span for one in told.resource_spans for scope in one.scope_spans for span in scope.spans)
        return web.Response(body=b"", content_type="application/x-protobuf")

    port = free_port()
    app = web.Application()
    app.router.add_post("/v1/traces", collect)
    async with serving(app, port), platform() as here, engine("good") as good:
        with gateway_process(tmp_path, here.url, IMTS_OTLP_URL=f"http://127.0.0.1:{port}") as gateway:
            await gateway.until_up()
            gone = provider("gone", refusing(), "tiny")
            await gateway.until_knows(here.publish(served("tiny", good.url), providers=[gone]))
            answered = set()
            for _ in range(12):
                parent = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "x-request-id": "mine"}
                answered.add((await gateway.post(CHAT, json={"model": "tiny"}, headers=parent))[0])
            gateway.process.terminate()
            await asyncio.to_thread(gateway.process.wait, 20)
    assert answered == {200}
    requests = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    tries = [span for span in spans if span.kind == Span.SPAN_KIND_CLIENT]
    assert len(requests) == 12
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert {span.parent_span_id for span in tries} == {span.span_id for span in requests}
    told = {one.key: one.value for one in requests[0].attributes}
    assert told["imts.request.id"].string_value == "mine"
    assert told["gen_ai.usage.output_tokens"].int_value == 4
    lost = [span for span in tries if span.status.code == 2]
    assert lost
    assert {span.name for span in lost} == {"try gone/tiny"}
    passed_on = {headers["traceparent"].split("-")[2] for headers in good.headers}
    assert passed_on == {span.span_id.hex() for span in tries} - {span.span_id.hex() for span in lost}
