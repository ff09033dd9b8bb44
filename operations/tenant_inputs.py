"""What tenants can be made and removed with: the same for who asks for it and for the run that does it."""

from __future__ import annotations

import math
from datetime import timedelta

from adapters.smtp_client.message import valid
from operations.change import REASON_LIMIT, FieldError
from operations.tenant_leaving import LONGEST_WAIT_HOURS
from operations.tenant_systems import ID, ID_ALLOWED
from operations.workflow_catalogue import OffboardingInput, ProvisioningInput

NAME_LIMIT = 200
REMOVING = timedelta(hours=1)
"""What of a run's timeout is kept for removing, beside the waiting period."""


def provisioning(given: ProvisioningInput) -> list[FieldError]:
    """What is wrong with a tenant to be made, as far as its values alone say."""
    wrong = []
    if not ID.fullmatch(given.tenant):
        wrong.append(FieldError("tenant", "cannot be an id", ID_ALLOWED))
    if not given.name.strip() or len(given.name) > NAME_LIMIT:
        wrong.append(FieldError("name", "is asked for", f"1 to {NAME_LIMIT} characters"))
    if not given.tier.strip():
        wrong.append(FieldError("tier", "is asked for", "the code of a tier"))
    if not valid(given.email):
        wrong.append(FieldError("email", "is not a mail address", "somebody@example.com"))
    return wrong


def offboarding(given: OffboardingInput, timeout: timedelta | None) -> list[FieldError]:
    """What is wrong with a tenant's removal by a run that may take as long as ``timeout``; None where nobody knows."""
    wrong = wait(given.wait_hours, timeout)
    if not given.tenant.strip():
        wrong.append(FieldError("tenant", "is asked for", "a tenant's id"))
    if len(given.reason) > REASON_LIMIT:
        wrong.append(FieldError("reason", "is too long", f"at most {REASON_LIMIT} characters"))
    return wrong


def wait(hours: float, timeout: timedelta | None) -> list[FieldError]:
    """What is wrong with a waiting period in a run that may take as long as ``timeout``."""
    longest = longest_wait(timeout)
    if math.isfinite(hours) and 0 <= hours <= longest:
        return []
    allowed = f"0 to {longest} hours"
    if math.isfinite(hours) and 0 <= hours <= LONGEST_WAIT_HOURS:
        said = "is longer than the timeout of tenant-offboarding allows"
        return [FieldError("wait_hours", said, f"{allowed}, or a longer timeout in the workflow settings")]
    return [FieldError("wait_hours", "is out of range", allowed)]


def longest_wait(timeout: timedelta | None) -> int:
    """How many whole hours can be waited within ``timeout``, which leaves time for removing."""
    if timeout is None:
        return LONGEST_WAIT_HOURS
    return max(0, min(LONGEST_WAIT_HOURS, (timeout - REMOVING) // timedelta(hours=1)))
