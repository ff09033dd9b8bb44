"""What Redis announces, read from the socket: together, in pieces, and when it is none."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from limiter import Rule, feed
from limiter.feed import Message
from limiter.table import Fetched, Table

SUBSCRIBED = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
FIRST = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$6\r\n{\r\n\xc3\xa9}\r\n"
SECOND = b"*3\r\n$7\r\nmessage\r\n$1\r\nb\r\n$0\r\n\r\n"
MESSAGES = [Message("subscribe", "a", "1"), Message("message", "a", "{\r\né}"), Message("message", "b", "")]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, feed._Direct]]:
    server, client = socket.socketpair()
    with server, client:
        yield server, feed._Direct(client)


def test_what_arrived_together_is_read_together(pair: tuple[socket.socket, feed._Direct]) -> None:
    server, reader = pair
    server.sendall(SUBSCRIBED + FIRST + SECOND + FIRST[:20])
    assert list(reader.read(1)) == MESSAGES
    server.sendall(FIRST[20:])
    assert list(reader.read(1)) == MESSAGES[1:2]


def test_a_dripping_server_is_understood_and_waited_for_no_longer_than_asked(
    pair: tuple[socket.socket, feed._Direct],
) -> None:
    server, reader = pair

    def drip() -> None:
        for byte in SUBSCRIBED + FIRST + SECOND:
            server.sendall(bytes([byte]))
            time.sleep(0.005)

    thread = threading.Thread(target=drip)
    thread.start()
    began = time.monotonic()
    assert list(reader.read(0.05)) == []
    assert time.monotonic() - began < 0.15
    found: list[Message] = []
    while len(found) < 3 and time.monotonic() - began < 10:
        found += reader.read(0.1)
    thread.join()
    assert found == MESSAGES
    assert list(reader.read(0)) == []


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"-NOPERM no\r\n", ResponseError),
        (b"+OK\r\n", ValueError),
        (b"*x\r\n", ValueError),
        (b"*1\r\n$4\r\npong\r\n", ValueError),
        (b"*3\r\n$x\r\n", ValueError),
        (b"", RedisConnectionError),
        (b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$99999999\r\n" + b"x" * (feed._LONGEST + 1), ValueError),
    ],
    ids=lambda value: value[:12] if isinstance(value, bytes) else value.__name__,
)
def test_what_is_no_message_ends_the_subscription(
    pair: tuple[socket.socket, feed._Direct], said: bytes, error: type[Exception]
) -> None:
    server, reader = pair
    thread = threading.Thread(target=lambda: (server.sendall(said), server.shutdown(socket.SHUT_WR)))
    thread.start()
    with pytest.raises(error):
        for _ in range(10_000):
            reader.read(1)
    thread.join()


def test_tables_that_follow_the_same_change_share_nothing_that_changes() -> None:
    config = json.dumps({"limit": 2, "window_seconds": 60, "policy": "HARD", "tiers": {"team": {"limit": 3}}})
    message = json.dumps(["calls", "1", "2", "1", config, ["tenant:acme", json.dumps({"limit": 5})]])
    tables = [Table(), Table()]
    for table in tables:
        table.apply("calls", Fetched(json.dumps({"limit": 1}), 1, 1, False, []), [])
        assert table.follow(message) == "calls"
    one, two = (table.keys["calls"] for table in tables)
    assert one == two
    assert one.tiers == {"team": Rule(3)}
    one.tiers.clear()
    one.put("tenant:acme", None)
    assert two.tiers == {"team": Rule(3)} and two.tenants == {"acme": Rule(5)}
    assert tables[1].follow(message) is None, "it is there already"
