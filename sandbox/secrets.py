"""Secrets each copy of the sandbox makes up for itself on its first start."""

from __future__ import annotations

import secrets

from cryptography.fernet import Fernet


def new_secrets() -> dict[str, str]:
    """Fresh values for everything in the sandbox that is protected by one."""
    return {
        "postgresql_password": secrets.token_hex(16),
        "redis_password": secrets.token_hex(16),
        "lago_api_key": f"lago_{secrets.token_hex(16)}",
        "qdrant_api_key": f"qdrant_{secrets.token_hex(16)}",
        "somabrain_api_key": f"soma_{secrets.token_hex(16)}",
        "oidc_client_id": "pilothouse",
        "oidc_client_secret": secrets.token_hex(24),
        "keycloak_admin_client_id": "pilothouse-admin",
        "keycloak_admin_client_secret": secrets.token_hex(24),
        "s3_access_key": f"AK{secrets.token_hex(9).upper()}",
        "s3_secret_key": secrets.token_hex(20),
        "smtp_username": "pilothouse",
        "smtp_password": secrets.token_hex(12),
        "control_token": secrets.token_urlsafe(24),
        "encryption_key": Fernet.generate_key().decode(),
    }
