"""The SMTP adapter on a real server."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from adapters.core import State
from adapters.core.probe import probe
from adapters.smtp import SMTP, SMTPConfig
from sandbox.faults import Fault
from sandbox.inprocess import Services
from sandbox.processes import free_port


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    made = Services(Path(tmp_path_factory.mktemp("smtp")))
    yield made
    made.close()


def adapter(services: Services, **more: Any) -> SMTP:
    return SMTP(SMTPConfig(host="127.0.0.1", port=services.port("smtp"), **more))


def test_a_well_server_takes_mail_and_says_what_it_can(services: Services) -> None:
    made = adapter(services)
    sample = probe(made)
    assert sample.health.state is State.HEALTHY, sample.health
    assert sample.headline is not None
    assert sample.headline.name == "latency"
    assert next(m for m in sample.metrics if m.name == "size_limit").value == 10 * 1024 * 1024
    assert {s.name for s in made.settings()} >= {"greeting", "tls", "authentication", "size"}


def test_signing_in_works_and_a_wrong_password_is_denied(services: Services) -> None:
    name, password = services.secrets["smtp_username"], services.secrets["smtp_password"]
    assert probe(adapter(services, username=name, password=SecretStr(password))).health.state is State.HEALTHY
    health = probe(adapter(services, username=name, password=SecretStr("canary-pw"))).health
    assert (health.state, health.kind) == (State.DOWN, "Denied")
    assert "canary-pw" not in health.detail


def test_starttls_that_is_not_offered_is_rejected(services: Services) -> None:
    health = probe(adapter(services, starttls=True)).health
    assert (health.state, health.kind) == (State.DOWN, "Rejected")
    assert "STARTTLS" in health.message


@pytest.mark.parametrize("fault", list(Fault))
def test_faults_are_a_health_in_time(services: Services, fault: Fault) -> None:
    made = adapter(services)
    services.fault("smtp", fault)
    try:
        start = time.monotonic()
        health = probe(made).health
        assert time.monotonic() - start < 3.4
        assert health.state in (State.DOWN, State.NO_ANSWER), health
    finally:
        services.fault("smtp", None)


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody has reason to trust, with its key, as one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / "server.pem"
    path.write_bytes(made.public_bytes(Encoding.PEM) + private)
    return path


@pytest.mark.parametrize("implicit", [False, True])
def test_tls_is_used_and_a_certificate_nobody_vouches_for_is_refused(tmp_path: Path, implicit: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    tls: dict[str, Any] = {"ssl_context": context} if implicit else {"tls_context": context}
    server = Controller(Sink(), hostname="127.0.0.1", port=free_port(), **tls)
    server.start()
    try:
        how = {"host": "127.0.0.1", "port": server.port, "starttls": not implicit, "implicit_tls": implicit}
        health = probe(SMTP(SMTPConfig(**how, verify_tls=False))).health
        assert health.state is State.HEALTHY, health
        assert "TLSv1" in health.message
        refused = probe(SMTP(SMTPConfig(**how))).health
        assert (refused.state, refused.kind) == (State.DOWN, "Denied")
    finally:
        server.stop()
