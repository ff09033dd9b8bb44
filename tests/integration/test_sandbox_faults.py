"""Each fault, as a real client of the protocol meets it, on new and on existing connections."""

from __future__ import annotations

import contextlib
import smtplib
import socket
import time

import grpc
import httpx
import psycopg
import pytest
import redis

from sandbox.engines import Temporal
from sandbox.inprocess import Services
from tests.support import poll

pytestmark = pytest.mark.engines
QUICK = 0.7
FAULTS = ("refuse", "hang", "drip", "500", "401", "garbage", "huge", "reset")


@pytest.fixture
def mailbox_url(standins: Services) -> str:
    """A plain HTTP service behind a proxy."""
    return standins.url("mailbox")


@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
@pytest.mark.parametrize("fault", FAULTS)
def test_http(standins: Services, mailbox_url: str, fault: str, existing: bool) -> None:
    with httpx.Client(base_url=mailbox_url, timeout=QUICK, trust_env=False) as client:
        if existing:
            assert client.get("/api/mails").status_code == 200
        standins.fault("mailbox", fault)
        if fault == "refuse":
            with pytest.raises(httpx.TransportError) as caught:
                client.get("/api/mails")
            assert existing or isinstance(caught.value, httpx.ConnectError)
        elif fault == "reset":
            with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
                client.get("/api/mails")
        elif fault == "hang":
            with pytest.raises(httpx.ReadTimeout):
                client.get("/api/mails")
        elif fault == "garbage":
            with pytest.raises(httpx.RemoteProtocolError):
                client.get("/api/mails")
        elif fault in ("500", "401"):
            assert client.get("/api/mails").status_code == int(fault)
            assert client.post("/api/mails", content=b"x" * 300_000).status_code == int(fault)
        elif fault == "huge":
            with client.stream("GET", "/api/mails", timeout=20) as answer:
                assert answer.status_code == 200
                assert sum(len(chunk) for chunk in answer.iter_raw()) > 100 * 1024 * 1024
        else:
            # A byte arrives every second: no pause ever reaches a read timeout, and no answer ever comes.
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", httpx.URL(mailbox_url).port)) as raw,
            ):
                raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                raw.settimeout(3)
                assert raw.recv(64) == b"H"
                begun = time.monotonic()
                assert raw.recv(64) == b"T"
                assert 0.7 < time.monotonic() - begun < 2
        standins.fault("mailbox", None)
    assert httpx.get(f"{mailbox_url}/api/mails", trust_env=False).status_code == 200


@pytest.mark.parametrize("fault", FAULTS)
def test_redis(standins: Services, engine_proxies: dict[str, int], fault: str) -> None:
    def client() -> redis.Redis:
        return redis.Redis(port=engine_proxies["redis"], socket_timeout=QUICK, socket_connect_timeout=QUICK, retry=None)

    with client() as existing:
        existing.ping()
        standins.fault("redis", fault)
        expected: dict[str, type[Exception] | tuple[type[Exception], ...]] = {
            "500": redis.exceptions.ResponseError,
            "401": redis.exceptions.AuthenticationError,
        }
        error = expected.get(fault, (redis.exceptions.RedisError, ValueError))
        for one in (existing, client()):
            with pytest.raises(error):
                one.ping()
            one.close()
    standins.fault("redis", None)
    with client() as mended:
        assert mended.ping()


@pytest.mark.parametrize("fault", FAULTS)
def test_postgresql(standins: Services, engine_proxies: dict[str, int], fault: str) -> None:
    dsn = f"host=127.0.0.1 port={engine_proxies['postgresql']} user=postgres dbname=postgres connect_timeout=2"
    with contextlib.closing(psycopg.connect(dsn)) as existing:
        standins.fault("postgresql", fault)
        with pytest.raises(psycopg.OperationalError) as caught:
            psycopg.connect(dsn).close()
        if fault == "401":
            assert "password authentication failed" in str(caught.value)
        if fault == "500":
            assert "internal error" in str(caught.value)
        if fault not in ("hang", "drip", "huge"):
            with pytest.raises((psycopg.OperationalError, psycopg.DatabaseError)):
                existing.execute("SELECT 1")
    standins.fault("postgresql", None)
    psycopg.connect(dsn).close()


@pytest.mark.parametrize("fault", FAULTS)
def test_smtp(standins: Services, fault: str) -> None:
    port = standins.port("smtp")
    standins.fault("smtp", fault)
    with (
        pytest.raises((smtplib.SMTPException, OSError)) as caught,
        smtplib.SMTP("127.0.0.1", port, timeout=QUICK) as one,
    ):
        one.login("somebody", "wrong")
    if fault == "401":
        assert isinstance(caught.value, smtplib.SMTPAuthenticationError)
    if fault == "500":
        assert isinstance(caught.value, smtplib.SMTPConnectError)
        assert caught.value.smtp_code == 421
    standins.fault("smtp", None)
    with smtplib.SMTP("127.0.0.1", port, timeout=5) as one:
        assert one.noop()[0] == 250


@pytest.mark.parametrize("fault", FAULTS)
def test_temporal(standins: Services, engine_proxies: dict[str, int], temporal: Temporal, fault: str) -> None:
    def ask() -> object:
        with grpc.insecure_channel(f"127.0.0.1:{engine_proxies['temporal']}") as channel:
            call = channel.unary_unary("/temporal.api.workflowservice.v1.WorkflowService/GetSystemInfo")
            return call(b"", timeout=2)

    ask()
    standins.fault("temporal", fault)
    with pytest.raises(grpc.RpcError) as caught:
        ask()
    expected = {"500": grpc.StatusCode.INTERNAL, "401": grpc.StatusCode.UNAUTHENTICATED}
    if fault in expected:
        assert caught.value.code() is expected[fault]
    standins.fault("temporal", None)

    def answers() -> bool:
        try:
            return ask() is not None
        except grpc.RpcError:
            return False  # gRPC keeps the broken connection for a moment

    poll(answers)


def test_what_went_through_is_counted(standins: Services, mailbox_url: str) -> None:
    before = standins.traffic("mailbox").requests
    with httpx.Client(base_url=mailbox_url, trust_env=False) as client:
        for _ in range(5):
            client.get("/api/mails")
    assert standins.traffic("mailbox").requests - before == 5
