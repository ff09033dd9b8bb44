"""The routes of the SRS, each redirected to the flat address of its page with the query kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route


def srs_routes(addresses: Mapping[str, str]) -> list[Route]:
    """One 307 route per SRS path; ``addresses`` maps the path to the page's address."""
    return [Route(path, _to(address), methods=["GET", "HEAD"]) for path, address in addresses.items()]


def _to(address: str) -> Callable[[Request], Awaitable[Response]]:
    async def redirect(request: Request) -> Response:
        query = request.url.query
        return RedirectResponse(f"{address}?{query}" if query else address, 307)

    return redirect
