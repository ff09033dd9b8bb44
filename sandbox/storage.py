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


def fill(port: int, seed: int | None) -> None:
    """Create the buckets, and with a seed their objects; the same for the same seed."""
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1", aws_access_key_id="sandbox",
        aws_secret_access_key="sandbox", config=Config(connect_timeout=2, read_timeout=10, retries={"max_attempts": 1}),
    )  # fmt: skip
    try:
        for bucket, (pattern, count, size) in BUCKETS.items():
            if seed is None and bucket != "pilothouse-uploads":
                continue
            client.create_bucket(Bucket=bucket)
            if seed is None:
                continue
            rng = random.Random(f"{seed}/{bucket}")
            for number in range(count):
                key = pattern.format(tenant=rng.choice(("kestrel-air", "northgate-bank", "tallis-insurance")), n=number)
                client.put_object(Bucket=bucket, Key=key, Body=b"\0" * int(size * rng.uniform(0.3, 1.8)))
    finally:
        client.close()


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
    fill(port, seed)
    print("ready", flush=True)
    ended.wait()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), None if sys.argv[2] == "none" else int(sys.argv[2]))
