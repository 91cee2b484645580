"""Logging: one line an event on standard error, as text or as JSON."""

import json
import logging
import sys
from datetime import UTC, datetime

ROOT = "bridge"
"""The logger that every logger of ours stands below."""


class TextFormatter(logging.Formatter):
    """`2026-02-12T17:40:00.123Z info node: sentence`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        name = record.name.removeprefix(f"{ROOT}.")
        line = f"{timestamp(record)} {record.levelname.lower()} {name}: {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and exception where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry = {
            "time": timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


FORMATTERS: dict[str, type[logging.Formatter]] = {"text": TextFormatter, "json": JsonFormatter}


def timestamp(record: logging.LogRecord) -> str:
    """Return when a record was made, UTC, with milliseconds."""
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def set_up_logs(level: str, form: str) -> None:
    """Log what is at least of `level` to standard error.

    Args:
        level: debug, info, warning or error.
        form: text or json.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATTERS[form]())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(ROOT).setLevel(level.upper())
