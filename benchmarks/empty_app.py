"""The console with one page more, an empty one, to measure the shell by itself."""

from benchmarks import empty_page
from pages.widgets import page

page.modules()["empty"] = empty_page  # type: ignore[assignment]

from app import app  # noqa: E402

__all__ = ["app"]
