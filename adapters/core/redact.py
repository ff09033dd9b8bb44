"""Taking secrets out of raw error texts before anyone keeps or shows them."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from pydantic import SecretStr

_URL_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s@/]+@", re.IGNORECASE)
_KEY_VALUE = re.compile(
    r"(?P<head>\b(?:password|passwd|secret|token|api[_-]?key)\s*[=:]\s*)[^\s,;&'\"]+", re.IGNORECASE
)
LIMIT = 2000


def redact(text: object, *secrets: SecretStr | str | None) -> str:
    """``text`` without passwords in URLs, ``password=…`` pairs and the given secrets, at most 2,000 characters."""
    out = str(text)
    for secret in secrets:
        plain = secret.get_secret_value() if isinstance(secret, SecretStr) else secret
        for form in {plain, quote(plain, safe=""), unquote(plain)} if plain else ():
            if len(form) >= 3:
                out = out.replace(form, "••••")
    out = _URL_PASSWORD.sub(r"\g<head>••••@", out)
    out = _KEY_VALUE.sub(r"\g<head>••••", out)
    return out if len(out) <= LIMIT else out[:LIMIT] + " …"
