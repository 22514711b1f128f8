"""Traces of requests, where somebody collects them: a span for the request and one for each try at an upstream.

The caller's own trace goes on (`traceparent`), and upstreams go on with that of their try.
"""

import contextlib
from collections.abc import Iterator, Mapping

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from imts_shared import __version__

_CARRIED = (b"traceparent", b"tracestate")


class Tracing:
    def __init__(self, url: str) -> None:
        about = Resource.create({"service.name": "imts-gateway", "service.version": __version__})
        self._provider = TracerProvider(resource=about)
        exporter = OTLPSpanExporter(endpoint=f"{url.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("imts.gateway", __version__)
        self._carrying = TraceContextTextMapPropagator()

    def close(self) -> None:
        """What was not told yet is told, if somebody hears it within some seconds."""
        self._provider.shutdown()

    @contextlib.contextmanager
    def request(self, path: str, headers: Mapping[bytes, bytes], identity: str) -> Iterator[Span]:
        carried = {name.decode(): headers[name].decode("latin-1") for name in _CARRIED if name in headers}
        told = {"http.request.method": "POST", "url.path": path, "imts.request.id": identity}
        with self._tracer.start_as_current_span(
            f"POST {path}", self._carrying.extract(carried), SpanKind.SERVER, told
        ) as span:
            yield span

    @contextlib.contextmanager
    def attempt(self, model: str, upstream: str, headers: dict[str, str]) -> Iterator[Span]:
        """`headers` are given the trace that the upstream is to go on with."""
        told = {"gen_ai.request.model": model, "imts.upstream": upstream}
        with self._tracer.start_as_current_span(f"try {upstream}", kind=SpanKind.CLIENT, attributes=told) as span:
            self._carrying.inject(headers)
            yield span


def answered(span: Span, told: Mapping[str, str | int | float | None], *, failed: bool) -> None:
    span.set_attributes({name: value for name, value in told.items() if value is not None})
    if failed:
        span.set_status(Status(StatusCode.ERROR))


NO_SPAN = trace.INVALID_SPAN
