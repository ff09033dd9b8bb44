"""One mail: composed by RFC 5322, handed over by RFC 5321, and who refused it, for good or for now."""

from __future__ import annotations

import hashlib
import smtplib
from email.message import EmailMessage
from email.policy import SMTP as WIRE
from email.utils import formatdate, parseaddr

from adapters.core.errors import Rejected


class Refused(Rejected):
    """The server will never take this mail: no such mailbox, too large, not wanted."""

    advice = "Correct the address, or ask whoever runs the mail server."


def valid(address: str) -> bool:
    """Whether ``address`` is one plain mail address that can stand in a header and in an SMTP command."""
    local, _, domain = address.rpartition("@")
    return (
        bool(local and domain)
        and len(address) <= 254
        and not any(one.isspace() or ord(one) < 33 or one in '<>(),;:"\\' for one in address)
        and parseaddr(address)[1] == address
    )


def message_id(reference: str, sender: str) -> str:
    """The Message-ID of whatever ``reference`` names; always the same one."""
    domain = parseaddr(sender)[1].rpartition("@")[2].strip("[]") or "localhost"
    return f"<{hashlib.sha256(reference.encode()).hexdigest()[:40]}@{domain}>"


def compose(sender: str, recipient: str, subject: str, body: str, reference: str) -> EmailMessage:
    """A mail of plain text. Raises Refused where no mail can be made of the values."""
    if not valid(recipient):
        raise Refused("This is not a mail address.", detail=repr(recipient)[:200])
    made = EmailMessage(policy=WIRE)
    try:
        made["From"] = sender
        made["To"] = recipient
        made["Subject"] = " ".join(subject.split())
    except (ValueError, IndexError) as error:
        raise Refused("No mail can be made of these values.", detail=repr(error)[:200]) from error
    made["Date"] = formatdate(usegmt=True)
    made["Message-ID"] = message_id(reference, sender)
    made["Auto-Submitted"] = "auto-generated"
    made.set_content(body)
    return made


def hand_over(client: smtplib.SMTP, sender: str, recipient: str, made: EmailMessage) -> None:
    """Send over a connection that is open. Raises Refused, Rejected (for now), OSError, smtplib.SMTPException."""
    try:
        client.send_message(made, parseaddr(sender)[1], [recipient])
    except smtplib.SMTPRecipientsRefused as error:
        code, answer = next(iter(error.recipients.values()))
        raise _refused("recipient", code, answer) from error
    except smtplib.SMTPSenderRefused as error:
        raise _refused("sender", error.smtp_code, error.smtp_error) from error
    except smtplib.SMTPDataError as error:
        raise _refused("mail", error.smtp_code, error.smtp_error) from error
    except smtplib.SMTPNotSupportedError as error:
        raise Refused("The mail server cannot take such an address.", detail=str(error)[:200]) from error


def _refused(what: str, code: int, answer: bytes | str) -> Rejected:
    words = answer if isinstance(answer, str) else answer.decode(errors="replace")
    said = " ".join(words.split())[:300]
    kind = Refused if 500 <= code < 600 else Rejected
    later = "" if kind is Refused else " for now"
    return kind(f"The mail server refused the {what}{later} ({code}): {said}", detail=f"{code} {said}")
