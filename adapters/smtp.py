"""SMTP: the server that takes the platform's mail. Health has a whole conversation and sends nothing."""

from __future__ import annotations

import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from pydantic import Field, SecretStr

from adapters.core.adapter import Adapter, ServiceConfig
from adapters.core.deadline import cut_off, deadline, remaining
from adapters.core.errors import AdapterError, Denied, Rejected, TimedOut, Unconfigured, Unexpected, Unreachable
from adapters.core.model import Category, Health, Metric, Service, Setting, State, Unit
from adapters.core.redact import redact
from adapters.smtp_client import connection, message

FRESH_S = 2.0
SEND_SECONDS = 3.0


class SMTPConfig(ServiceConfig):
    """How to reach the mail server, and whom mail comes from."""

    host: str | None = Field(None, title="Host", json_schema_extra={"required": True})
    port: int = Field(587, ge=1, le=65535, title="Port")
    username: str | None = Field(None, title="User name", description="Not set: the server is used without signing in.")
    password: SecretStr | None = Field(None, title="Password")
    starttls: bool = Field(
        False, title="STARTTLS", description="Turn to TLS after connecting; refused where not offered."
    )
    implicit_tls: bool = Field(False, title="TLS from the start", description="As port 465 expects it.")
    verify_tls: bool = Field(True, title="Check the certificate")
    from_address: str | None = Field(None, title="From", description="The address platform mail is sent from.")


@dataclass(frozen=True, slots=True)
class Conversation:
    """What the server said of itself."""

    greeting: str
    extensions: dict[str, str] = field(default_factory=dict)
    encrypted: str = ""
    """TLS version in use, empty without TLS."""
    signed_in: bool = False
    latency_ms: float = 0.0
    """Time of one NOOP round trip in milliseconds."""

    @property
    def size_limit(self) -> int | None:
        """Largest message in bytes the server announces to take; None where it does not say."""
        value = self.extensions.get("size", "")
        return int(value) if value.isdigit() and int(value) > 0 else None


class SMTP(Adapter[SMTPConfig]):
    """One SMTP server."""

    service = Service(
        slug="smtp",
        title="Email (SMTP)",
        category=Category.DELIVERY,
        path="/platform/infrastructure/email",
        purpose="Sends the platform's mail: invitations, alerts, invoices.",
        affects="invitations, password mails and alerts by mail",
        order=120,
    )

    def __init__(self, config: SMTPConfig) -> None:
        super().__init__(config)
        self._lock = threading.Lock()
        self._last: tuple[float, Conversation] | None = None

    def health(self) -> Health:
        """Connect, EHLO, STARTTLS and AUTH where configured, NOOP, QUIT."""
        said = self.converse()
        how = said.encrypted or "without TLS"
        sentence = f"Takes mail, {how}{', signed in' if said.signed_in else ''}."
        return Health(State.HEALTHY, sentence, said.greeting[:80] or None)

    def metrics(self) -> Sequence[Metric]:
        """Latency (headline), the size limit, how many extensions, whether TLS is in use."""
        said = self._recent()
        found = [
            Metric("latency", "SMTP OK", said.latency_ms, Unit.MILLISECONDS, headline=True),
            Metric("extensions", "Extensions", len(said.extensions)),
            Metric("encrypted", "Encrypted", float(bool(said.encrypted)), Unit.NONE, note=said.encrypted or "no TLS"),
        ]
        if said.size_limit is not None:
            found.append(Metric("size_limit", "Largest message", said.size_limit, Unit.BYTES))
        return found

    def settings(self) -> Sequence[Setting]:
        """What the server announces in its answer to EHLO."""
        said = self._recent()
        limit = str(said.size_limit) if said.size_limit else "not announced"
        return [
            Setting("greeting", redact(said.greeting), description="The server's own line."),
            Setting("tls", said.encrypted or "none", group="Security"),
            Setting("authentication", said.extensions.get("auth", "not offered"), group="Security"),
            Setting("size", limit, Unit.BYTES if said.size_limit else Unit.NONE, description="Largest message taken."),
            *(
                Setting(name, redact(value)[:200] or "yes", group="Extensions")
                for name, value in sorted(said.extensions.items())[:50]
            ),
        ]

    def converse(self) -> Conversation:
        """One whole conversation, without sending mail. Raises AdapterError."""
        self.require_config()
        config = self.config
        with deadline(), self._translated():
            client = connection.client(implicit_tls=config.implicit_tls, verify_tls=config.verify_tls)
            try:
                with cut_off(lambda: client.sock.shutdown(socket.SHUT_RDWR) if client.sock else None):
                    said = self._talk(client)
            finally:
                client.close()
        with self._lock:
            self._last = (time.monotonic(), said)
        return said

    def send(self, recipient: str, subject: str, body: str, *, reference: str, seconds: float = SEND_SECONDS) -> str:
        """Hand one mail of plain text to the server, within ``seconds``; its Message-ID.

        The same ``reference`` gives the same Message-ID, so that a mail sent twice can be recognised.
        Raises message.Refused when the server will never take it; another AdapterError when it may later.
        """
        self.require_config()
        config = self.config
        if not config.from_address:
            name = "PILOTHOUSE_SMTP_FROM_ADDRESS"
            raise Unconfigured(f"The platform's mail has no sender: set {name}.", missing=(name,))
        made = message.compose(config.from_address, recipient, subject, body, reference)
        with deadline(seconds), self._translated():
            client = connection.client(implicit_tls=config.implicit_tls, verify_tls=config.verify_tls)
            try:
                with cut_off(lambda: client.sock.shutdown(socket.SHUT_RDWR) if client.sock else None):
                    self._begin(client)
                    message.hand_over(client, config.from_address, recipient, made)
                    with suppress(smtplib.SMTPException, OSError, AdapterError):
                        client.quit()
            finally:
                client.close()
        return str(made["Message-ID"])

    def _begin(self, client: smtplib.SMTP) -> bytes:
        """Connect, turn to TLS and sign in as configured; the server's greeting."""
        config = self.config
        code, greeting = client.connect(config.host or "", config.port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, greeting)
        client.ehlo_or_helo_if_needed()
        if config.starttls and not config.implicit_tls:
            if not client.has_extn("starttls"):
                raise Rejected(
                    "The mail server does not offer STARTTLS.", advice="Switch STARTTLS off or fix the server."
                )
            if client.sock is not None:
                client.sock.settimeout(remaining())  # a TLS handshake counts this over its whole length
            client.starttls(context=connection.tls(verify=config.verify_tls))
            client.ehlo()
        if config.username:
            client.login(config.username, config.password.get_secret_value() if config.password else "")
        return greeting

    def _talk(self, client: smtplib.SMTP) -> Conversation:
        greeting = self._begin(client)
        start = time.perf_counter()
        code, answer = client.noop()
        latency_ms = round((time.perf_counter() - start) * 1000, 2)
        if code != 250:
            raise smtplib.SMTPResponseException(code, answer)
        said = Conversation(
            greeting=greeting.decode(errors="replace")[:200],
            extensions={str(k)[:64]: str(v).strip() for k, v in client.esmtp_features.items()},
            encrypted=client.sock.version() or "" if isinstance(client.sock, ssl.SSLSocket) else "",
            signed_in=bool(self.config.username),
            latency_ms=latency_ms,
        )
        with suppress(smtplib.SMTPException):
            client.quit()
        return said

    def _recent(self) -> Conversation:
        # Health and metrics of one visit share one conversation: mail servers count connections.
        with self._lock:
            if self._last is not None and time.monotonic() - self._last[0] < FRESH_S:
                return self._last[1]
        return self.converse()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except TimedOut as error:
            raise TimedOut("The mail server did not answer in time.", detail=error.detail) from error
        except AdapterError:
            raise
        except smtplib.SMTPAuthenticationError as error:
            raise Denied("The mail server refused the user name or password.", detail=self._redact(error)) from error
        except smtplib.SMTPNotSupportedError as error:
            raise Rejected("The mail server does not offer what is configured.", detail=self._redact(error)) from error
        except (smtplib.SMTPServerDisconnected, OSError) as error:
            if isinstance(error, TimeoutError) or _out_of_time():
                raise TimedOut("The mail server did not answer in time.", detail=self._redact(error)) from error
            if isinstance(error, ssl.SSLError):
                raise Denied("TLS with the mail server failed.", detail=self._redact(error)) from error
            if isinstance(error, smtplib.SMTPResponseException):
                raise self._refused(error) from error
            raise Unreachable("No connection to the mail server.", detail=self._redact(error)) from error
        except (ValueError, TypeError, UnicodeError, AttributeError) as error:
            raise Unexpected("What answers at this address does not speak SMTP.", detail=self._redact(error)) from error

    def _refused(self, error: smtplib.SMTPResponseException) -> AdapterError:
        if 400 <= error.smtp_code < 600:
            return Rejected(
                f"The mail server refused the conversation ({error.smtp_code}).", detail=self._redact(error)
            )
        return Unexpected("What answers at this address does not speak SMTP.", detail=self._redact(error))

    def _redact(self, error: object) -> str:
        return redact(f"{type(error).__name__}: {error}", self.config.password)


def _out_of_time() -> bool:
    try:
        remaining()
    except TimedOut:
        return True
    return False
