"""Logging: loguru everywhere, one line an event, JSON in containers; the standard library's records join in."""

import json
import logging
import sys
import traceback
from typing import TYPE_CHECKING, Any

from loguru import logger

if TYPE_CHECKING:
    from loguru import Message, Record


class _Intercept(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        logger.opt(depth=6, exception=record.exc_info).log(level, record.getMessage())


def _json_line(record: "Record") -> str:
    line: dict[str, Any] = {
        "time": record["time"].isoformat(),
        "level": record["level"].name,
        "event": record["message"],
        "logger": record["name"],
        **record["extra"],
    }
    if record["exception"] is not None:
        kind, value, trace = record["exception"]
        line["exceptionType"] = getattr(kind, "__name__", None)
        line["exception"] = "".join(traceback.format_exception(kind, value, trace))
    return json.dumps(line, default=str)


def _text_format(record: "Record") -> str:
    fields = " ".join(f"{name}={{extra[{name}]}}" for name in record["extra"])
    return "{time:HH:mm:ss.SSS} {level: <7} {message} " + fields + "\n{exception}"


def start_logging(service: str, level: str = "INFO", form: str = "text") -> None:
    """Sends everything to stderr; `diagnose` stays off so that no local variable (a key, say) is ever printed."""
    logger.remove()
    if form == "json":

        def write_json(message: "Message") -> None:
            sys.stderr.write(_json_line(message.record) + "\n")
            sys.stderr.flush()

        logger.add(write_json, level=level, diagnose=False, backtrace=False)
    else:
        logger.add(sys.stderr, level=level, format=_text_format, diagnose=False, backtrace=False)
    logger.configure(extra={"service": service})
    logging.basicConfig(handlers=[_Intercept()], level=logging.WARNING, force=True)
