"""The page of Keycloak: realms, who is signed in, and sign-ins that failed."""

from typing import cast

import streamlit as st

from adapters.keycloak import Keycloak
from adapters.keycloak_admin.records import LoginFailure, Realm, UserSession
from operations.access import Permission
from pages.widgets import listing, state, table
from pages.widgets.page import service_page
from pages.widgets.template import View, service

PAGE = service_page("keycloak", icon=":material/key:")
LIMITS = "Sign-in attempts are limited by the realm's brute-force protection, under Status as Keycloak reports it."


def render() -> None:
    """Draw the page."""
    service(PAGE, monitor=_monitor, limits=LIMITS)


def _monitor(view: View) -> None:
    adapter = cast(Keycloak, view.adapter)
    listing.draw(
        view,
        "realms",
        "Realms",
        adapter.realms,
        ("Realm", "Enabled", "Brute-force protection", "Events kept", "Users", "Sessions", "Failed sign-ins, 1 h"),
        _realm,
        nothing="The service account sees none.",
        every=30.0,
        right=(4, 5, 6),
    )
    if not view.may(Permission.INFRA_OPERATE):
        # Names and addresses of people are for those who have to act on them.
        st.caption("Sessions and failed sign-ins of single people are shown to those who may operate services.")
        return
    listing.draw(
        view,
        "failures",
        f"Failed sign-ins of {adapter.config.realm}, last 24 hours",
        lambda: adapter.login_failures(hours=24),
        ("When", "User name", "Address", "Client", "Why"),
        _failure,
        nothing="None, or the realm keeps no events.",
        every=30.0,
        quiet=(0,),
    )
    listing.draw(
        view,
        "sessions",
        f"Sessions of {adapter.config.realm}",
        adapter.sessions,
        ("Last used", "User name", "Address", "Started", "Clients"),
        _session,
        nothing="Nobody is signed in.",
        every=30.0,
        quiet=(0, 3),
    )


def _realm(one: Realm) -> tuple[str, ...]:
    flags = ("not told" if flag is None else "yes" if flag else "no" for flag in (one.brute_force, one.events))
    counts = ("–" if count is None else f"{count:,}" for count in (one.users, one.sessions, one.failed_logins))
    return f"<b>{state.text(one.name)}</b>", "yes" if one.enabled else "no", *flags, *counts


def _failure(one: LoginFailure) -> tuple[str, ...]:
    return table.when(one.at), *map(
        state.text, (one.username or "–", one.address or "–", one.client or "–", one.error.replace("_", " "))
    )


def _session(one: UserSession) -> tuple[str, ...]:
    return (
        table.when(one.last_access_at),
        state.text(one.username),
        state.text(one.address or "–"),
        table.when(one.started_at),
        state.text(", ".join(one.clients)),
    )
