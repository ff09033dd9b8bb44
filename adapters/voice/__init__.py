"""What Whisper and Kokoro have in common: dialects, try-outs, and WAV without an audio library."""
