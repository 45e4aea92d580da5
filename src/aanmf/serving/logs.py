"""Log lines as JSON, one per event, without personal data: no ids, no addresses, no query strings."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

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


def log_to_stderr(level: str = "info") -> None:
    """Sends the logs of the service and of uvicorn to stderr as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("aanmf.serving", "uvicorn", "uvicorn.error"):
        each = logging.getLogger(name)
        each.handlers, each.propagate = [handler] if name != "uvicorn.error" else [], name == "uvicorn.error"
        each.setLevel(level.upper())
