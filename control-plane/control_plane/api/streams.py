"""Server-sent events: bytes that are already rendered, sent as they come."""

from starlette.responses import StreamingResponse


class EventStream(StreamingResponse):
    """Nothing on the way may hold the stream back or keep it."""

    media_type = "text/event-stream"

    def init_headers(self, headers: object = None) -> None:
        super().init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
