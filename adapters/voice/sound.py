"""WAV files: one made for a try-out, one checked after it."""

from __future__ import annotations

import io
import math
import struct
import wave

from adapters.core.errors import Unexpected

RATE_HZ = 16_000
BITS = 16
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE


def tone(seconds: float = 1.0) -> bytes:
    """A WAV of a quiet tone of 440 Hz: 16 kHz, mono, 16 bits, which every Whisper takes as it is."""
    count = round(seconds * RATE_HZ)
    samples = (round(4000 * math.sin(2 * math.pi * 440 * n / RATE_HZ)) for n in range(count))
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(BITS // 8)
        sound.setframerate(RATE_HZ)
        sound.writeframes(struct.pack(f"<{count}h", *samples))
    return out.getvalue()


def seconds_of(raw: bytes, service: str) -> float:
    """Seconds of sound in a WAV. Raises Unexpected where it is none, is empty or is silent.

    Servers that stream do not know the length beforehand and announce 0 or 4 GiB: what counts is
    the bytes that arrived.
    """
    byte_rate, data = _parts(raw, service)
    if not data:
        raise Unexpected(f"{service} answered a WAV without sound.", detail=f"{len(raw)} bytes")
    if not any(data):
        raise Unexpected(f"{service} answered a WAV of silence.", detail=f"{len(data)} bytes of zero")
    return len(data) / byte_rate


def _parts(raw: bytes, service: str) -> tuple[int, bytes]:
    """Bytes per second and the samples."""
    wrong = Unexpected(f"{service} answered something that is not a WAV.", detail=repr(raw[:200]))
    if raw[:4] != b"RIFF" or raw[8:12] != b"WAVE":
        raise wrong
    at, byte_rate = 12, 0
    while at + 8 <= len(raw):
        name, size = raw[at : at + 4], int.from_bytes(raw[at + 4 : at + 8], "little")
        body = at + 8
        if name == b"fmt " and len(raw) >= body + 16:
            kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", raw[body : body + 16])
            if kind not in (_PCM, _FLOAT, _EXTENSIBLE):
                raise wrong
            byte_rate = channels * rate * bits // 8  # computed, for some servers write 0 into the header's own
        elif name == b"data":
            if not byte_rate:
                raise wrong
            announced = size if 0 < size < len(raw) - body else len(raw) - body
            return byte_rate, raw[body : body + announced]
        at = body + size + size % 2
    raise wrong
