"""Contexts of certificate files: what a URL asks for, what a renewed file changes, and what a failure says."""

import asyncio
import re
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from caravan.tls import (
    CertificateFiles,
    CertificateFilesError,
    complete_url,
    describe_unverified,
    explain_failure,
    get_context,
    get_url_context,
)
from tests.support.certificates import Authority, create_authority
from tests.support.tls_tunnel import TlsTunnel, open_tunnel

SETTING = "CARAVAN_KAFKA_URL"


async def greet(context: ssl.SSLContext, tunnel: TlsTunnel, host: str = "localhost") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", tunnel.port, ssl=context, server_hostname=host)
    try:
        writer.write(b"hello\n")
        return await reader.readline()
    finally:
        writer.transport.abort()


@pytest.fixture
async def echo() -> AsyncIterator[tuple[str, int]]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()
    server.close()


FILES = CertificateFiles("/c/ca.crt", "/c/tls.crt", "/c/tls.key")


def test_a_url_is_completed_with_the_parameters_of_its_client() -> None:
    assert complete_url("rediss://:p%20w@r:6380/0", FILES) == (
        "rediss://:p%20w@r:6380/0?ssl_ca_certs=/c/ca.crt&ssl_certfile=/c/tls.crt&ssl_keyfile=/c/tls.key"
    )
    assert complete_url("amqps://u:p@r/v", CertificateFiles(ca="/c/ca.crt")) == "amqps://u:p@r/v?cafile=/c/ca.crt"
    assert complete_url("postgresql://h/postgres?options=-c%20a%3Db", CertificateFiles(ca="/c/a b.crt")) == (
        "postgresql://h/postgres?options=-c%20a%3Db&sslmode=verify-full&sslrootcert=/c/a%20b.crt"
    )
    own = "postgresql://h/postgres?sslmode=verify-ca&sslrootcert=/own.crt"
    assert complete_url(own, CertificateFiles(ca="/c/ca.crt")) == own
    assert CertificateFiles.from_url(complete_url("rediss://r", FILES)) == FILES


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://r", "rediss://"),
        ("amqp://r", "amqps://"),
        ("http://r", "https://"),
        ("postgresql://h/d?sslmode=prefer", "sslmode=verify-full"),
    ],
)
def test_certificates_for_a_connection_without_tls_are_refused(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        complete_url(url, FILES)
    assert complete_url(url, CertificateFiles()) == url


@pytest.mark.parametrize(
    "url", ["amqps://r/?no_verify_ssl=1", "rediss://r?ssl_cert_reqs=none", "rediss://r?ssl_check_hostname=false"]
)
def test_verification_cant_be_switched_off(url: str) -> None:
    with pytest.raises(ValueError, match="is always verified"):
        complete_url(url, CertificateFiles())


@pytest.mark.parametrize(
    ("url", "parameter"),
    [
        ("postgresql://h/d?sslmode=verify-full&sslcrl=/c/revoked.crl", "sslcrl"),
        ("postgresql://h/d?sslmode=verify-full&ssl_min_protocol_version=TLSv1.3", "ssl_min_protocol_version"),
        ("postgresql://h/d?sslmode=verify-full&ssl_max_protocol_version=TLSv1.2", "ssl_max_protocol_version"),
        ("postgresql://h/d?sslcert=/c/tls.crt&sslkey=/c/tls.key&sslpassword=p", "sslpassword"),
        ("rediss://r?ssl_min_version=771", "ssl_min_version"),
        ("rediss://r?ssl_ciphers=HIGH", "ssl_ciphers"),
        ("rediss://r?ssl_include_verify_flags=VERIFY_CRL_CHECK_LEAF", "ssl_include_verify_flags"),
        ("rediss://r?ssl_ca_data=pem", "ssl_ca_data"),
        ("rediss://r?ssl_ca_path=/c", "ssl_ca_path"),
        ("amqps://r?capath=/c", "capath"),
        ("amqps://r?cadata=pem", "cadata"),
        ("amqps://r?ca_certs=/c/ca.crt", "ca_certs"),
        ("amqp://r?cafile=/c/ca.crt", "cafile"),
    ],
)
def test_a_parameter_of_tls_that_would_count_for_nothing_is_refused(url: str, parameter: str) -> None:
    with pytest.raises(ValueError, match=f"must not have {parameter}: the parameters of TLS that a "):
        complete_url(url, CertificateFiles())


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h/d?sslmode=verify-full&sslnegotiation=direct&sslrootcert=system&application_name=ssl",
        "rediss://r?ssl_cert_reqs=required&ssl_check_hostname=true&ssl_ca_certs=/c/ca.crt&protocol=3",
        "amqps://r?no_verify_ssl=0&cafile=/c/ca.crt&heartbeat=20",
    ],
)
def test_parameters_that_count_stay(url: str) -> None:
    assert complete_url(url, CertificateFiles()) == url


def test_an_unknown_sslmode_is_refused() -> None:
    with pytest.raises(ValueError, match="must have one of these as sslmode: disable, allow, prefer, "):
        complete_url("postgresql://h/d?sslmode=verify_full", CertificateFiles())


def test_sslmode_means_what_it_means_to_libpq(tmp_path: Path, authority: Authority) -> None:
    ca = authority.write_ca(tmp_path)
    by_mode = {
        mode: get_url_context(f"postgresql://h/d?sslmode={mode}&sslrootcert={ca}")
        for mode in ("disable", "prefer", "require", "verify-ca", "verify-full")
    }
    assert by_mode["disable"] is by_mode["prefer"] is None
    assert {mode: context.check_hostname for mode, context in by_mode.items() if context} == {
        "require": False,
        "verify-ca": False,
        "verify-full": True,
    }
    assert all(context.verify_mode is ssl.CERT_REQUIRED for context in by_mode.values() if context)
    assert get_url_context("postgresql://h/d?sslmode=require") is None
    assert describe_unverified("postgresql://h/d?sslmode=require")
    assert not describe_unverified(f"postgresql://h/d?sslmode=require&sslrootcert={ca}")
    assert get_url_context("postgresql://h/d?sslmode=verify-full&sslrootcert=system") is get_url_context(
        "postgresql://h/d?sslmode=verify-full"
    )


@pytest.mark.parametrize(
    ("url", "weakness"),
    [
        ("postgresql://h/d", "no sslmode"),
        ("postgresql://h/d?sslmode=prefer", "sslmode=prefer"),
        ("postgresql://h/d?sslmode=allow", "sslmode=allow"),
        ("postgresql:///d?host=10.0.0.1", "no sslmode"),
        ("postgresql://h/d?sslmode=disable", ""),
        ("postgresql://h/d?sslmode=verify-ca", ""),
        ("postgresql://localhost/d", ""),
        ("postgresql://127.0.0.1:5432/d?sslmode=prefer", ""),
        ("postgresql://[::1]/d", ""),
        ("postgresql:///d?host=/var/run/postgresql", ""),
        ("postgresql:///d", ""),
    ],
)
def test_a_postgres_far_away_that_may_be_without_tls_is_unverified(url: str, weakness: str) -> None:
    assert describe_unverified(url) == weakness


async def test_a_renewed_file_counts_from_the_next_connection(
    tmp_path: Path, authority: Authority, echo: tuple[str, int]
) -> None:
    server = authority.write_certificate(tmp_path / "server", "localhost")
    client = authority.write_certificate(tmp_path / "client")
    context = get_context(CertificateFiles.find(client))
    with open_tunnel(lambda: socket.create_connection(echo), server, asks_certificate=True) as tunnel:
        assert await greet(context, tunnel) == b"hello\n"
        other = create_authority("another")
        other.write_certificate(server, "localhost")
        with pytest.raises(ssl.SSLError):
            await greet(context, tunnel)
        other.write_certificate(client)
        assert await greet(context, tunnel) == b"hello\n"


async def test_an_unusable_renewal_leaves_the_former_files_in_use(
    tmp_path: Path, authority: Authority, echo: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    server = authority.write_certificate(tmp_path / "server", "localhost")
    client = authority.write_certificate(tmp_path / "client")
    context = get_context(CertificateFiles.find(client))
    with open_tunnel(lambda: socket.create_connection(echo), server, asks_certificate=True) as tunnel:
        shutil.copy(server / "tls.crt", client / "tls.crt")  # half a renewal: the key is another's
        assert await greet(context, tunnel) == b"hello\n"
        (client / "tls.key").unlink()
        assert await greet(context, tunnel) == b"hello\n"


async def test_each_failure_names_the_setting_and_the_reason(
    tmp_path: Path, authority: Authority, echo: tuple[str, int]
) -> None:
    ca = create_authority("another").write_ca(tmp_path / "other")
    good = CertificateFiles(ca=str(authority.write_ca(tmp_path / "good")))

    async def fail(files: CertificateFiles, server: Path) -> str:
        with (
            open_tunnel(lambda: socket.create_connection(echo), server) as tunnel,
            pytest.raises(ssl.SSLError) as raised,
        ):
            await greet(get_context(files), tunnel)
        try:
            raise ConnectionError("what a client makes of it") from raised.value
        except ConnectionError as error:
            return explain_failure(error, SETTING, files)

    server = authority.write_certificate(tmp_path / "server", "localhost")
    assert re.fullmatch(
        rf"{SETTING}: the server's certificate is refused: .*certificate.*; its CA must be in {ca}",
        await fail(CertificateFiles(ca=str(ca)), server),
    )
    assert "the CAs of the system" in await fail(CertificateFiles(), server)
    expired = authority.write_certificate(tmp_path / "expired", "localhost", expires_in=-timedelta(days=1))
    assert "certificate has expired; renew it" in await fail(good, expired)
    elsewhere = authority.write_certificate(tmp_path / "elsewhere", "elsewhere.test")
    assert "not valid for 'localhost'; name the server as" in await fail(good, elsewhere)
    assert explain_failure(ConnectionError("refused"), SETTING, good) == ""


def test_files_that_cant_be_used_are_named(tmp_path: Path, authority: Authority) -> None:
    folder = authority.write_certificate(tmp_path)
    files = CertificateFiles.find(folder)
    with pytest.raises(CertificateFilesError, match=r"tls.crt: a certificate and its key go together"):
        get_context(CertificateFiles(files.ca, files.certificate))
    (folder / "ca.crt").write_text("nothing")
    with pytest.raises(CertificateFilesError, match=r"ca.crt: can't be read as CA certificates in PEM"):
        get_context(files)
    authority.write_ca(folder)
    key = serialization.load_pem_private_key((folder / "tls.key").read_bytes(), None)
    (folder / "tls.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"passphrase"),
        )
    )
    with pytest.raises(CertificateFilesError, match="the key has a passphrase"):
        get_context(files)
