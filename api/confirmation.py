"""What ends, blocks or removes something is confirmed by naming it once more, as people type it on the page."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from operations.change import FieldError, Invalid

Confirm = Annotated[str, Field(max_length=1000, description="The name of what it is done to, once more")]


def named(given: str, name: str, doing: str) -> None:
    """Raise Invalid, naming the field and what it has to hold, where ``given`` is not ``name``.

    ``doing`` says what would be done ("It ends at once").
    """
    if given.strip() != name.strip():
        raise Invalid([FieldError("confirm", f"{doing}: name it once more to confirm", name)])
