"""Two real MCP servers over streamable HTTP, each with tools that work: a calendar, and files."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer
from starlette.applications import Starlette

from sandbox.standins import Standin

MAX_FILE_CHARACTERS = 100_000
MAX_FILES = 500


def calendar(state_dir: Path, seed: int | None) -> Starlette:
    """A calendar kept in ``state_dir``; seeded with this week's meetings unless it starts empty."""

    def fresh() -> dict[str, Any]:
        if seed is None:
            return {"next": 1, "events": []}
        today = datetime.now(UTC).date()
        monday = today - timedelta(days=today.weekday())
        events = [
            {
                "id": number + 1, "title": title, "minutes": 30,
                "start": f"{monday + timedelta(days=day)}T{clock}:00+00:00",
            }
            for number, (day, clock, title) in enumerate(
                ((0, "09:00", "Week planning"), (1, "13:30", "Capacity review"), (2, "10:00", "Tenant onboarding"),
                 (3, "15:00", "Incident review"), (4, "11:00", "Roadmap"))
            )
        ]  # fmt: skip
        return {"next": len(events) + 1, "events": events}

    standin = Standin("mcp-calendar", state_dir, fresh)
    server = MCPServer("calendar", version="1.4.0", instructions="Events of the demo team, in UTC.", log_level="ERROR")

    def parse(moment: str) -> datetime:
        parsed = datetime.fromisoformat(moment)
        return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)

    def on(day: date) -> list[dict[str, Any]]:
        return sorted(
            (event for event in standin.state["events"] if parse(event["start"]).date() == day),
            key=lambda event: event["start"],
        )

    @server.tool()
    def list_events(day: str) -> list[dict[str, Any]]:
        """Events of one day (YYYY-MM-DD)."""
        return on(date.fromisoformat(day))

    @server.tool()
    def create_event(title: str, start: str, minutes: int = 30) -> dict[str, Any]:
        """Add an event; ``start`` is ISO 8601, UTC where it names no zone."""
        if not 1 <= minutes <= 1440:
            raise ValueError("minutes must be between 1 and 1440")
        event = {
            "id": standin.state["next"],
            "title": title[:200],
            "start": parse(start).isoformat(),
            "minutes": minutes,
        }
        standin.state["next"] += 1
        standin.state["events"] = [*standin.state["events"][-499:], event]
        standin.changed()
        return event

    @server.tool()
    def delete_event(event_id: int) -> str:
        """Remove an event."""
        kept = [event for event in standin.state["events"] if event["id"] != event_id]
        if len(kept) == len(standin.state["events"]):
            raise ValueError(f"there is no event {event_id}")
        standin.state["events"] = kept
        standin.changed()
        return f"deleted {event_id}"

    @server.tool()
    def find_free_slot(day: str, minutes: int = 30) -> str:
        """First free time between 09:00 and 17:00 UTC of a day, as ISO 8601."""
        at = datetime.combine(date.fromisoformat(day), time(9, tzinfo=UTC))
        end = at.replace(hour=17)
        for event in on(at.date()):
            start = parse(event["start"])
            if start - at >= timedelta(minutes=minutes):
                break
            at = max(at, start + timedelta(minutes=event["minutes"]))
        if at + timedelta(minutes=minutes) > end:
            raise ValueError("no free time that day")
        return at.isoformat()

    return _app(server, standin)


def files(state_dir: Path, seed: int | None) -> Starlette:
    """Small text files kept in a folder of their own below ``state_dir``."""
    root = state_dir / "mcp-files"
    standin = _Folder("mcp-files", state_dir, dict)
    standin.root, standin.seeded = root, seed is not None
    if not root.exists():
        standin.reset()
    server = MCPServer("files", version="0.9.2", instructions="Text files of the demo team.", log_level="ERROR")

    def inside(name: str) -> Path:
        path = (root / name).resolve()
        if not path.is_relative_to(root.resolve()) or path == root.resolve():
            raise ValueError("that path lies outside of the folder")
        return path

    def listing() -> list[Path]:
        return sorted(path for path in root.rglob("*") if path.is_file())[:MAX_FILES]

    @server.tool()
    def list_files() -> list[dict[str, Any]]:
        """Every file with its size in bytes."""
        return [{"path": str(path.relative_to(root)), "bytes": path.stat().st_size} for path in listing()]

    @server.tool()
    def read_file(path: str) -> str:
        """The text of a file."""
        found = inside(path)
        if not found.is_file():
            raise ValueError(f"there is no file {path}")
        return found.read_text()[:MAX_FILE_CHARACTERS]

    @server.tool()
    def write_file(path: str, text: str) -> str:
        """Create or replace a file."""
        if len(text) > MAX_FILE_CHARACTERS:
            raise ValueError(f"a file may have {MAX_FILE_CHARACTERS} characters")
        target = inside(path)
        if not target.exists() and len(listing()) >= MAX_FILES:
            raise ValueError(f"there may be {MAX_FILES} files")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return f"wrote {len(text)} characters"

    @server.tool()
    def search_text(words: str) -> list[dict[str, Any]]:
        """Lines that contain the words, at most 50."""
        found: list[dict[str, Any]] = []
        for path in listing():
            for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
                if words.lower() in line.lower() and len(found) < 50:
                    found.append({"path": str(path.relative_to(root)), "line": number, "text": line[:200]})
        return found

    @server.resource("files://index")
    def index() -> str:
        """Names of all files, one a line."""
        return "\n".join(str(path.relative_to(root)) for path in listing())

    return _app(server, standin)


class _Folder(Standin):
    """Files are their own state; a reset empties the folder and puts the first files back."""

    root: Path
    seeded: bool

    def reset(self) -> None:
        """Back to the first files."""
        import shutil

        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)
        if self.seeded:
            (self.root / "welcome.md").write_text("# Welcome\n\nShared notes of the demo team.\n")
            (self.root / "runbook").mkdir()
            (self.root / "runbook" / "redis-memory.md").write_text(
                "# Redis memory above 90 %\n\n1. Look at the largest keys.\n2. Check the eviction policy.\n"
            )
            (self.root / "runbook" / "lago-402.md").write_text("# Payment failed\n\nRetry after a day, then write.\n")

    def save(self) -> None:
        """Nothing to do: every write went to the disk."""


def _app(server: MCPServer[Any], standin: Standin) -> Starlette:
    app = server.streamable_http_app()
    app.state.standin = standin
    return app


SERVERS = {"calendar": calendar, "files": files}
"""Factories by the name the console knows the server under."""
