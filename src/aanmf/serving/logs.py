"""Log lines as JSON, one per event, without personal data: no ids, no addresses, no query strings."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TextIO

from pydantic_core import to_json

logger = logging.getLogger("aanmf.serving")


class JsonLines(logging.Formatter):
    """`{"time": ..., "level": ..., "event": ..., ...}`; what is passed as `extra={"fields": {...}}` joins it."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as one line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {"time": time, "level": record.levelname.lower(), "event": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return to_json(line, fallback=str).decode()


class Gathered(logging.StreamHandler[TextIO]):
    """Writes many lines at once: at a warning, and otherwise twice a second (see `flush_logs`)."""

    def __init__(self) -> None:
        super().__init__(open(sys.stderr.fileno(), "w", buffering=1 << 16, encoding="utf-8", closefd=False))  # noqa: SIM115

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one line, without a system call in most cases."""
        try:
            self.stream.write(self.format(record) + "\n")
            if record.levelno >= logging.WARNING:
                self.stream.flush()
        except Exception:  # a log that cannot be written must not fail a request
            self.handleError(record)


def flush_logs() -> None:
    """Writes what has gathered."""
    for handler in logging.getLogger("aanmf.serving").handlers:
        with suppress(OSError, ValueError):  # the log's disk is full, or its reader has gone: the service goes on
            handler.flush()


def log_to_stderr(level: str = "info") -> None:
    """Sends the logs of the service and of uvicorn to stderr as JSON."""
    handler = Gathered()
    handler.setFormatter(JsonLines())
    for name in ("aanmf.serving", "uvicorn", "uvicorn.error"):
        each = logging.getLogger(name)
        each.handlers, each.propagate = [handler] if name != "uvicorn.error" else [], name == "uvicorn.error"
        each.setLevel(level.upper())
