"""How an adapter says that a service did not do what was asked.

Every error carries a sentence an operator can act on; ``detail`` keeps the raw text.
"""

from __future__ import annotations


class AdapterError(Exception):
    """A service failed an adapter's call. Raised, never returned."""

    advice = "Look at the service's own log."
    status: int = 0
    """The HTTP status it was answered with, 0 where there was none."""
    body: str = ""
    """The answer itself, whole; for adapters that read more out of it. Never shown as it is."""

    def __init__(self, sentence: str, *, detail: str = "", advice: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.detail = detail
        if advice:
            self.advice = advice


class Unconfigured(AdapterError):
    """A required setting is missing; ``missing`` names what to set."""

    advice = "Set the missing values in the environment, in pilothouse.toml or on the service's page."

    def __init__(self, sentence: str, *, missing: tuple[str, ...] = ()) -> None:
        super().__init__(sentence)
        self.missing = missing


class Unreachable(AdapterError):
    """No connection: refused, reset, no such host."""

    advice = "Check that the service runs, its address here, and the network between."


class TimedOut(AdapterError):
    """The service took the call and did not finish in time."""

    advice = "The service is overloaded or stuck: look at its load before restarting it."


class Denied(AdapterError):
    """The service refused our credentials or permissions."""

    advice = "Check the credentials configured here and what they are allowed to do."


class Rejected(AdapterError):
    """The service understood the request and refused it: bad value, missing object, conflict."""

    advice = "Correct the request as the service says."


class Unexpected(AdapterError):
    """The service answered something it should not have: an error page, garbage, too much."""

    advice = "Check that the address is really this service, its version, and its log."
