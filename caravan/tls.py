"""TLS contexts for connections to databases and brokers, made of certificate files that may be renewed.

`backend_settings.py` completes each URL with the files that CARAVAN_CERTIFICATES has for its server. Their parameters
have the names that clients of the server use (`sslrootcert`, `ssl_ca_certs`, `cafile`), but only this module reads
them. Whoever connects gives its client a context: that of a URL is `get_url_context`'s; Kafka has no URL, and
`caravan/bus/kafka_servers.py` asks `get_context`, as `redis_pools.py` does.

Server and host name are always verified, but for Postgres with the `sslmode` values that say otherwise: whoever starts
a process is told of them (`describe_unverified`).
"""

import os
import re
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from caravan.telemetry import log

_NAMES = ("ca.crt", "tls.crt", "tls.key")
"""Of the files in a folder, as in a Secret of type `kubernetes.io/tls`."""
_AMQP_PARAMETERS = ("cafile", "certfile", "keyfile")
_REDIS_PARAMETERS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_POSTGRES_PARAMETERS = ("sslrootcert", "sslcert", "sslkey")
_PARAMETERS = {
    "postgresql": _POSTGRES_PARAMETERS,
    "postgres": _POSTGRES_PARAMETERS,
    "rediss": _REDIS_PARAMETERS,
    "amqps": _AMQP_PARAMETERS,
    "https": _AMQP_PARAMETERS,
}
"""The parameters for CA, certificate and key in the URLs of each scheme that can mean TLS."""
_UNVERIFIED = {"no_verify_ssl": ("0",), "ssl_cert_reqs": ("required",), "ssl_check_hostname": ("true", "True", "1")}
"""Parameters that switch verification off, and the values that don't."""
_OTHER_PARAMETERS = {
    "postgresql": ("sslmode", "sslnegotiation"),
    "postgres": ("sslmode", "sslnegotiation"),
    "rediss": ("ssl_cert_reqs", "ssl_check_hostname"),
    "amqps": ("no_verify_ssl",),
}
"""Those that count, or mean what is done anyway, besides the files."""
_TLS_PARAMETER = re.compile(r"ssl.*|ca_?(?:file|path|data|certs)|certfile|keyfile|no_verify_ssl")
"""What clients of these servers call their parameters of TLS. The context is ours, so that they read none of them."""
_POSTGRES_ALPN = "postgresql"
_POSTGRES_TLS_MODES = ("require", "verify-ca", "verify-full")
_OPTIONAL_MODES = ("", "allow", "prefer")
"""With them a client also goes on without TLS."""
_SAME_HOST = ("", "localhost", "::1")
_POSTGRES_MODES = ("disable", "allow", "prefer", *_POSTGRES_TLS_MODES)


class TlsError(ConnectionError):
    """A connection that can't be made because of its certificates; the text names the setting and says what to do."""


class CertificateFilesError(TlsError):
    """The files themselves can't be used."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files; no CA means those of the system, no certificate that the client shows none."""

    ca: str = ""
    certificate: str = ""
    key: str = ""

    @classmethod
    def find(cls, folder: Path) -> Self:
        """Those that a folder has, under the names of the keys of a Secret."""
        return cls(*(str(folder / name) if (folder / name).exists() else "" for name in _NAMES))

    @classmethod
    def from_url(cls, url: str) -> Self:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        files = [query.get(parameter, "") for parameter in _PARAMETERS.get(parts.scheme, ())]
        if files and files[0] == "system":  # as libpq calls the system's CAs
            files[0] = ""
        return cls(*files)

    def list_given(self) -> list[str]:
        return [file for file in (self.ca, self.certificate, self.key) if file]


def complete_url(url: str, files: CertificateFiles) -> str:
    """The URL with these files as parameters, where it has none of its own. Raises ValueError when it doesn't mean a
    verified TLS connection, though it should, or has a parameter of TLS that would count for nothing.
    """
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    added: dict[str, str] = {}
    for parameter, safe_values in _UNVERIFIED.items():
        if query.get(parameter, safe_values[0]) not in safe_values:
            raise ValueError(f"must not have {parameter}: the server's certificate is always verified")
    known_parameters = (*_PARAMETERS.get(parts.scheme, ()), *_OTHER_PARAMETERS.get(parts.scheme, ()))
    for parameter in query:
        if _TLS_PARAMETER.fullmatch(parameter) and parameter not in known_parameters:
            raise ValueError(
                f"must not have {parameter}: the parameters of TLS that a {parts.scheme}:// URL may have are "
                f"{', '.join(known_parameters) or 'none'}"
            )
    if query.get("sslmode", "prefer") not in _POSTGRES_MODES:
        raise ValueError(f"must have one of these as sslmode: {', '.join(_POSTGRES_MODES)}")
    if not files.list_given():
        return url
    if parts.scheme not in _PARAMETERS:
        secure_scheme = {"redis": "rediss", "amqp": "amqps", "http": "https"}.get(parts.scheme, "a TLS scheme")
        raise ValueError(f"must begin with {secure_scheme}://, because CARAVAN_CERTIFICATES has certificates for it")
    if _PARAMETERS[parts.scheme] is _POSTGRES_PARAMETERS:
        if query.get("sslmode", "verify-full") not in _POSTGRES_TLS_MODES:
            raise ValueError("must have sslmode=verify-full, because CARAVAN_CERTIFICATES has certificates for it")
        if "sslmode" not in query:
            added["sslmode"] = "verify-full"
    for parameter, file in zip(_PARAMETERS[parts.scheme], (files.ca, files.certificate, files.key), strict=True):
        if file and parameter not in query:
            added[parameter] = file
    new_query = [part for part in (parts.query, urlencode(added, safe="/", quote_via=quote)) if part]
    return parts._replace(query="&".join(new_query)).geturl()


def get_url_context(url: str) -> ssl.SSLContext | None:
    """The context for a URL that asks for a verified TLS connection, else None."""
    parts = urlsplit(url)
    parameters = _PARAMETERS.get(parts.scheme)
    if parameters is None:
        return None
    files = CertificateFiles.from_url(url)
    if parameters is not _POSTGRES_PARAMETERS:
        return get_context(files)
    match dict(parse_qsl(parts.query)).get("sslmode"):
        case "verify-full":
            return get_context(files, alpn=_POSTGRES_ALPN)
        case "verify-ca":
            return get_context(files, has_host_check=False, alpn=_POSTGRES_ALPN)
        case "require" if files.ca:  # as libpq takes it
            return get_context(files, has_host_check=False, alpn=_POSTGRES_ALPN)
        case _:
            return None


def describe_unverified(url: str) -> str:
    """What in a URL of Postgres lets anybody between be the server; empty when nothing does, or when nobody is between:
    a socket, the same host. `disable` says that the network is trusted.
    """
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    mode = query.get("sslmode", "")
    if mode == "require" and get_url_context(url) is None:
        return "sslmode=require without a CA"
    host = query.get("host") or parts.hostname or ""
    if mode in _OPTIONAL_MODES and host not in _SAME_HOST and not host.startswith(("/", "127.")):
        return f"sslmode={mode}" if mode else "no sslmode"
    return ""


@lru_cache(maxsize=32)
def get_context(files: CertificateFiles, *, has_host_check: bool = True, alpn: str = "") -> ssl.SSLContext:
    """The one context of these files. Raises CertificateFilesError when they can't be used."""
    return _RenewedContext(files, has_host_check, alpn)


class _RenewedContext(ssl.SSLContext):
    """Is made anew before a connection when one of its files has changed.

    Clients keep the context that they are given, and each connection begins with `wrap_bio`: so a renewed file counts
    from the next connection on, whoever makes it. Files that can't be used, as in the middle of a renewal, leave the
    former ones in use, and the log says so.
    """

    def __new__(cls, *_: Any) -> Self:
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, files: CertificateFiles, has_host_check: bool, alpn: str) -> None:
        self._files = files
        self._alpn = alpn
        self.check_hostname = has_host_check
        self._versions = _read_versions(files)
        self._current = self._load()

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        return self._refresh().wrap_bio(*arguments, **options)

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        return self._refresh().wrap_socket(*arguments, **options)

    def _refresh(self) -> ssl.SSLContext:
        versions = _read_versions(self._files)
        if versions != self._versions:
            self._versions = versions
            try:
                self._current = self._load()
            except CertificateFilesError as error:
                log.warning("renewed certificate not used, the former one still is", error=str(error))
        return self._current

    def _load(self) -> ssl.SSLContext:
        files = self._files
        if bool(files.certificate) != bool(files.key):
            raise CertificateFilesError(
                f"{files.certificate or files.key}: a certificate and its key go together, as {_NAMES[1]} and "
                f"{_NAMES[2]}"
            )
        try:
            context = ssl.create_default_context(cafile=files.ca or None)
        except (OSError, ValueError) as error:
            raise CertificateFilesError(f"{files.ca}: can't be read as CA certificates in PEM: {error}") from None
        context.check_hostname = self.check_hostname
        if self._alpn:
            context.set_alpn_protocols([self._alpn])
        if files.certificate:
            try:
                context.load_cert_chain(files.certificate, files.key, password=_refuse_passphrase)
            except (OSError, ValueError) as error:
                raise CertificateFilesError(
                    f"{files.certificate} and {files.key}: can't be used as a certificate and its key: {error}"
                ) from None
        return context


def _refuse_passphrase() -> str:
    raise ValueError("the key has a passphrase, and must have none")


def _read_versions(files: CertificateFiles) -> Sequence[tuple[int, int, int] | None]:
    """What changes when a file does; None for one that is not there."""
    versions: list[tuple[int, int, int] | None] = []
    for file in files.list_given():
        try:
            status = os.stat(file)
            versions.append((status.st_mtime_ns, status.st_size, status.st_ino))
        except OSError:
            versions.append(None)
    return versions


def explain_failure(error: BaseException, setting: str, files: CertificateFiles) -> str:
    """What a failed connection says of certificates, with the setting and what to do about it; empty when it says
    nothing of them.
    """
    for cause in _list_causes(error):
        if isinstance(cause, TlsError):
            return str(cause)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"{setting}: the server's certificate is refused: {_explain_verification(cause, files)}"
        if isinstance(cause, ssl.SSLError):
            return f"{setting}: no TLS connection: {_explain_handshake(cause, files)}"
    return ""


def suggest_certificate(files: CertificateFiles) -> str:
    """For a server that ended a TLS connection without a word: most send none when they miss a client certificate."""
    if files.certificate:
        return f"does it accept the client certificate {files.certificate}?"
    return "does it want a client certificate (tls.crt and tls.key in a folder of CARAVAN_CERTIFICATES)?"


def _explain_verification(error: ssl.SSLCertVerificationError, files: CertificateFiles) -> str:
    message = error.verify_message.rstrip(".")
    if "expired" in message or "not yet valid" in message:
        return f"{message}; renew it on the server"
    if "mismatch" in message.lower():
        return f"{message}; name the server as its certificate does"
    trusted = files.ca or "the CAs of the system (ca.crt in a folder of CARAVAN_CERTIFICATES names others)"
    return f"{message}; its CA must be in {trusted}"


def _explain_handshake(error: ssl.SSLError, files: CertificateFiles) -> str:
    reason = error.reason or str(error)
    if reason in ("WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "RECORD_LAYER_FAILURE"):
        return f"{reason}; does the server speak TLS on this port?"
    if "CERTIFICATE" in reason or "UNKNOWN_CA" in reason:
        shown = files.certificate or "no certificate (tls.crt and tls.key in a folder of CARAVAN_CERTIFICATES are one)"
        return f"{reason}; the server refuses what this client shows: {shown}"
    return reason


def _list_causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
