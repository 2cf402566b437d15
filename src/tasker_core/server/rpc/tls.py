"""The settings' files → what the server shows, and asks of clients.

They are tried out before anything listens: gRPC itself only logs what is wrong with them.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc

from tasker_core.errors import InvalidSettings
from tasker_core.settings import Settings


def credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """Read the certificate, its key, and who signs those of clients; None: no TLS.

    Raises:
        InvalidSettings: One of the files is missing, or is not what it should be.
    """
    certificate, key = settings.grpc_tls_certificate, settings.grpc_tls_key
    authority = settings.grpc_tls_client_ca
    if problems := list(_problems(certificate, key, authority)):
        raise InvalidSettings(problems)
    if certificate is None or key is None:
        return None
    return grpc.ssl_server_credentials(
        [(key.read_bytes(), certificate.read_bytes())],
        root_certificates=None if authority is None else authority.read_bytes(),
        require_client_auth=authority is not None,
    )


def _problems(certificate: Path | None, key: Path | None, authority: Path | None) -> Iterator[str]:
    files = {
        "grpc_tls_certificate": certificate,
        "grpc_tls_key": key,
        "grpc_tls_client_ca": authority,
    }
    if any(files.values()):
        for name in ("grpc_tls_certificate", "grpc_tls_key"):
            if files[name] is None:
                yield f"{name} is not set, but TLS needs it"
    unreadable = False
    for name, file in files.items():
        try:
            if file is not None:
                file.read_bytes()
        except OSError as error:
            unreadable = True
            yield f"{name} is {file}, which cannot be read: {error.strerror}"
    if unreadable:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate is not None and key is not None:
        try:
            context.load_cert_chain(certificate, key, password=lambda: "")  # asks nobody
        except (ssl.SSLError, OSError, ValueError) as error:
            yield (
                f"grpc_tls_certificate is {certificate} and grpc_tls_key is {key}, but they must "
                f"be a certificate in PEM and its key, not encrypted: {_told(error)}"
            )
    if authority is not None:
        try:
            context.load_verify_locations(authority)
        except (ssl.SSLError, OSError) as error:
            yield f"grpc_tls_client_ca is {authority}, but must be certificates in PEM: " + _told(
                error
            )


def _told(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
