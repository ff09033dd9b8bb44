"""What the processes write to their log, and how: one line per event, times in UTC."""

from __future__ import annotations

import logging
import time

_CHATTY = ("httpx", "httpx2", "httpcore", "mcp", "botocore", "boto3", "urllib3", "temporalio", "alembic")


def configure() -> None:
    """Log to standard error. Libraries only from warnings on: they would print addresses with what is in them."""
    handler = logging.StreamHandler()
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
