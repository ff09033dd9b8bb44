"""S3: moto's server. It keeps objects in memory only, so the demo buckets are filled at every start.

``python -m sandbox.storage PORT SEED`` serves until a signal; SEED may be ``none``.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading

BUCKETS = {
    "pilothouse-uploads": ("uploads/{tenant}/{n:03d}.pdf", 40, 60_000),
    "pilothouse-voice": ("recordings/{n:04d}.wav", 25, 90_000),
    "pilothouse-backups": ("postgresql/{n:02d}.dump.zst", 7, 400_000),
}
"""Bucket -> pattern of keys, how many, usual size in bytes."""


def fill(seed: int | None) -> None:
    """Forget everything stored, make the buckets anew, and with a seed their objects; the same for the same seed.

    For the process that serves: objects are put where the server keeps them, without a request for each.
    """
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    s3_backends[DEFAULT_ACCOUNT_ID]["aws"].reset()
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for bucket, (pattern, count, size) in BUCKETS.items():
        if seed is None and bucket != "pilothouse-uploads":
            continue
        backend.create_bucket(bucket, "us-east-1")
        if seed is None:
            continue
        rng = random.Random(f"{seed}/{bucket}")
        for number in range(count):
            key = pattern.format(tenant=rng.choice(("kestrel-air", "northgate-bank", "tallis-insurance")), n=number)
            backend.put_object(bucket, key, b"\0" * int(size * rng.uniform(0.3, 1.8)))


def start(port: int) -> object:
    """Serve S3 on 127.0.0.1:port from a daemon thread; returns the server, which has ``stop()``."""
    os.environ.setdefault("MOTO_S3_CUSTOM_ENDPOINTS", "")
    import logging

    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    return server


def main(port: int, seed: int | None) -> None:
    """Serve until SIGTERM or SIGINT."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    start(port)
    fill(seed)
    print("ready", flush=True)
    ended.wait()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), None if sys.argv[2] == "none" else int(sys.argv[2]))
