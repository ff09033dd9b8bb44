"""The demo people of a sandbox: who they are, and the secrets each copy makes up for them."""

from __future__ import annotations

import random
import secrets
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who can sign in to the sandbox. ``id`` is the Keycloak subject."""

    id: str
    username: str
    name: str
    email: str
    roles: tuple[str, ...]
    password: str
    api_token: str

    @property
    def first_name(self) -> str:
        """Everything before the last word of the name."""
        return self.name.rsplit(" ", 1)[0]

    @property
    def last_name(self) -> str:
        """The last word of the name."""
        return self.name.rsplit(" ", 1)[-1]

    def as_dict(self) -> dict[str, Any]:
        """For people.json."""
        return {**asdict(self), "roles": list(self.roles)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Person:
        """From people.json; raises KeyError or TypeError on a file that is not one."""
        return cls(**{**values, "roles": tuple(values["roles"])})


_WHO = (
    ("ada", "Ada Moreau", "platform_admin"),
    ("ivo", "Ivo Lindqvist", "infra_admin"),
    ("bea", "Bea Okafor", "billing_admin"),
    ("ana", "Ana Ribeiro", "analyst"),
    ("pim", "Pim de Vries", "product_manager"),
    ("sam", "Sam Haddad", "security_auditor"),
)
_WORDS = [
    "amber",
    "basin",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heron",
    "inlet",
    "juniper",
    "karst",
    "lantern",
    "maple",
    "north",
    "otter",
    "pebble",
    "quartz",
    "ridge",
    "sable",
    "tundra",
    "umber",
    "violet",
    "willow",
    "yarrow",
    "zephyr",
    "anchor",
    "beacon",
    "compass",
    "harbor",
    "keel",
    "mast",
    "rudder",
    "sextant",
    "tide",
]


def demo_people() -> list[Person]:
    """The six demo people, each with a fresh random password and API token."""
    pick = random.SystemRandom()
    return [
        Person(
            id=f"00000000-0000-4000-8000-{number:012d}",
            username=username,
            name=name,
            email=f"{username}@pilothouse.test",
            roles=(role,),
            password="-".join(pick.choice(_WORDS) for _ in range(4)) + f"-{pick.randrange(100, 1000)}",
            api_token=f"ph_{secrets.token_urlsafe(32)}",
        )
        for number, (username, name, role) in enumerate(_WHO, start=1)
    ]
