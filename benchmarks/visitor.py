"""A person without a browser: speaks Streamlit's WebSocket protocol, counts and times its answers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

ANSWER_SECONDS = 30.0
"""A page that says nothing for so long never will: better an end with a reason than a benchmark that hangs."""
FINISHED = (ForwardMsg.FINISHED_SUCCESSFULLY, ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY)


@dataclass
class Visit:
    """What one script run sent: seconds until it finished, messages, bytes, and the readable text."""

    seconds: float
    messages: int
    size_bytes: int
    text: str
    fragments: tuple[str, ...] = ()


@dataclass
class Visitor:
    """One open page. ``cookie`` and ``headers`` are sent with the handshake."""

    url: str
    cookie: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    _socket: ClientConnection | None = None

    async def __aenter__(self) -> Visitor:
        address = self.url.replace("http", "ws", 1) + "/_stcore/stream"
        headers = {**self.headers, **({"Cookie": self.cookie} if self.cookie else {})}
        self._socket = await connect(
            address,
            origin=self.url,  # type: ignore[arg-type]
            additional_headers=headers,
            subprotocols=["streamlit"],  # type: ignore[list-item]
            max_size=None,
            open_timeout=60,
            compression=None,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._socket is not None:
            await self._socket.close()

    async def run(self, page: str = "", query: str = "", fragment: str = "") -> Visit:
        """Ask for one run of ``page`` (its URL path without slash) and wait until it has finished."""
        assert self._socket is not None
        message = BackMsg()
        message.rerun_script.page_name = page
        message.rerun_script.query_string = query
        message.rerun_script.context_info.timezone = "UTC"
        message.rerun_script.context_info.url = f"{self.url}/{page}"
        if fragment:
            message.rerun_script.fragment_id = fragment
        start = time.perf_counter()
        await self._socket.send(message.SerializeToString())
        messages = size = 0
        text: list[str] = []
        fragments: list[str] = []
        kind: str | None = "nothing"
        while True:
            try:
                raw = await asyncio.wait_for(self._socket.recv(), ANSWER_SECONDS)
            except TimeoutError:
                raise TimeoutError(f"/{page} was silent for {ANSWER_SECONDS:.0f} s; last came {kind}") from None
            assert isinstance(raw, bytes)
            messages += 1
            size += len(raw)
            answer = ForwardMsg.FromString(raw)
            kind = answer.WhichOneof("type")
            if kind == "delta":
                text.append(str(answer.delta))
            elif kind == "auto_rerun":
                fragments.append(answer.auto_rerun.fragment_id)
            elif kind == "script_finished" and answer.script_finished in FINISHED:
                return Visit(time.perf_counter() - start, messages, size, "".join(text), tuple(fragments))
