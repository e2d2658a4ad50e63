"""TLS for DTC connections: the two ends' contexts, the pin, and what a failed handshake means."""

import hashlib
import hmac
import ssl
from pathlib import Path

from mia_daemon.config import DtcSettings
from mia_daemon.errors import CertificateRefused, ConfigError, ConnectionLost, PeerError, StartError

_OUT_OF_DATE = {9, 10}
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""


def client_context(settings: DtcSettings) -> ssl.SSLContext | None:
    """What the client's end of a connection needs; None where it is not encrypted.

    Raises:
        ConfigError: `tls_ca_file` can't be used.
    """
    if not settings.encrypted:
        return None
    if settings.tls == "pinned":  # the fingerprint says who it is; names and authorities say nothing more
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        try:
            context = ssl.create_default_context(cafile=settings.tls_ca_file)
        except OSError as error:  # ssl.SSLError is one
            reason = error.strerror if error.errno else "it holds no certificate in PEM form"
            raise ConfigError(
                f"dtc.tls_ca_file {settings.tls_ca_file} can't be used: {reason}; name a file of PEM certificates"
            ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What the server's end needs.

    Raises:
        StartError: the files can't be read or do not belong together.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key, password="")  # an encrypted key fails; nobody is asked
    except OSError as error:
        reason = getattr(error, "reason", "") or error.strerror
        raise StartError(
            f"the certificate {certificate} with the key {key} can't be used: {reason}; both have to be PEM files, "
            "and the key the certificate's, without a password"
        ) from error
    return context


def fingerprint(tls: ssl.SSLObject | ssl.SSLSocket) -> str:
    """SHA-256 of the peer's certificate, in lower-case hexadecimal digits."""
    return hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()


def check_pin(settings: DtcSettings, tls: ssl.SSLObject | ssl.SSLSocket, address: str) -> None:
    """Look at who answered, before anything is said.

    Raises:
        CertificateRefused: the server is not the pinned one.
    """
    if settings.tls != "pinned":
        return
    found = fingerprint(tls)
    if not hmac.compare_digest(found, settings.tls_fingerprint_sha256):
        raise CertificateRefused(
            f"the certificate of {address} is not the pinned one, nothing was sent: its SHA-256 fingerprint is "
            f"{found}; set dtc.tls_fingerprint_sha256 to it only if you know that the certificate was renewed"
        )


def handshake_failure(error: OSError, address: str) -> PeerError:
    """What it means that the TLS handshake ended like this, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = (
            "look at this machine's clock, and have it renewed"
            if error.verify_code in _OUT_OF_DATE
            else "set dtc.tls_ca_file to who issued it or dtc.tls_server_name to the name it bears, or pin it "
            '(dtc.tls = "pinned")'
        )
        return CertificateRefused(f"the certificate of {address} is not accepted ({error.verify_message}): {advice}")
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "handshake failed").replace("_", " ").lower()
        return ConnectionLost(f'{address} does not answer in TLS ({reason}): set dtc.tls = "off" if it is a plain port')
    return ConnectionLost(
        f"{address} took the connection but did not complete the TLS handshake: is this the port of its TLS server?"
    )
