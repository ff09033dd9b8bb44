"""The sound of the voice stand-ins: WAV read, tones made. No audio library needed."""

from __future__ import annotations

import hashlib
import io
import math
import struct
import wave

RATE_HZ = 24_000
SECONDS_PER_CHARACTER = 0.06
WORDS_PER_SECOND = 2.5
WORDS = ("yes", "please", "book", "a", "table", "for", "two", "tomorrow", "at", "noon", "thanks", "and", "call", "me")


class NotSound(ValueError):
    """The bytes are no WAV that could be heard."""


def duration(raw: bytes) -> float:
    """Seconds of a WAV, by the samples really there. Raises NotSound."""
    try:
        with wave.open(io.BytesIO(raw)) as sound:
            frames = len(sound.readframes(sound.getnframes())) // (sound.getsampwidth() * sound.getnchannels())
            seconds = frames / sound.getframerate()
    except (wave.Error, EOFError, ValueError, ZeroDivisionError, struct.error) as error:
        raise NotSound(str(error) or "the file ends too early") from error
    if seconds <= 0:
        raise NotSound("the file has no samples")
    return seconds


def heard(raw: bytes, seconds: float) -> str:
    """Words for a sound: always the same for the same bytes, as many as could be said in that time."""
    digest = hashlib.sha256(raw).digest()
    count = min(200, max(1, round(seconds * WORDS_PER_SECOND)))
    return " ".join(WORDS[digest[n % len(digest)] % len(WORDS)] for n in range(count)).capitalize() + "."


def spoken(text: str, speed: float) -> float:
    """Seconds it takes to say ``text``."""
    return max(0.2, len(text) * SECONDS_PER_CHARACTER / speed)


def pcm(seconds: float, voice: int) -> bytes:
    """A tone as 16-bit little-endian mono samples; each voice has its own pitch."""
    period = 200 - 10 * voice
    one = struct.pack(f"<{period}h", *(round(9000 * math.sin(2 * math.pi * n / period)) for n in range(period)))
    size = round(seconds * RATE_HZ)
    return (one * (size // period + 1))[: 2 * size]


def wav(samples: bytes) -> bytes:
    """The samples of :func:`pcm` as a WAV file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE_HZ)
        sound.writeframes(samples)
    return out.getvalue()
