"""Half a configuration of an outside issuer, or an unsafe one, is refused at the start, by name."""

import pytest

from caravan.environment import SettingsError, load_class
from services.identity.settings import Settings

ISSUER = {"OIDC_ISSUER": "https://login.example.com"}
AUDIENCE, CLIENT = {"OIDC_AUDIENCE": "api"}, {"OIDC_CLIENT_ID": "shop", "OIDC_CLIENT_SECRET": "s"}


@pytest.mark.parametrize(
    "given",
    [
        {},
        ISSUER | AUDIENCE,
        ISSUER | CLIENT,
        ISSUER | AUDIENCE | CLIENT | {"OIDC_ROLES": '{"a": "admin"}', "OIDC_DEFAULT_ROLE": "none"},
        AUDIENCE | {"OIDC_ISSUER": "http://127.0.0.1:5556/dex"},
        AUDIENCE | {"OIDC_ISSUER": "http://[::1]:5556"},
        AUDIENCE | {"OIDC_ISSUER": "http://localhost:8080/realms/shop"},
    ],
    ids=str,
)
def test_a_whole_configuration_is_taken(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"IDENTITY_{name}", value)
    assert load_class(Settings).oidc_issuer == given.get("OIDC_ISSUER", "")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (ISSUER, "IDENTITY_OIDC_AUDIENCE"),
        (AUDIENCE, "IDENTITY_OIDC_ISSUER"),
        (CLIENT, "IDENTITY_OIDC_ISSUER"),
        ({"OIDC_ROLES": '{"a": "admin"}'}, "IDENTITY_OIDC_ISSUER"),
        ({"OIDC_LINK_BY_EMAIL": "true"}, "IDENTITY_OIDC_ISSUER"),
        (ISSUER | {"OIDC_CLIENT_ID": "shop"}, "IDENTITY_OIDC_CLIENT_SECRET"),
        (ISSUER | AUDIENCE | {"OIDC_CLIENT_SECRET": "s"}, "IDENTITY_OIDC_CLIENT_ID"),
        (ISSUER | AUDIENCE | {"OIDC_DEFAULT_ROLE": "none"}, "IDENTITY_OIDC_ROLES"),
        (ISSUER | AUDIENCE | {"OIDC_ROLES": '{"a": "root"}'}, "IDENTITY_OIDC_ROLES"),
        (ISSUER | AUDIENCE | {"OIDC_DEFAULT_ROLE": "admin"}, "IDENTITY_OIDC_DEFAULT_ROLE"),
        (ISSUER | AUDIENCE | {"OIDC_ALGORITHMS": '["HS256"]'}, "IDENTITY_OIDC_ALGORITHMS"),
        (ISSUER | AUDIENCE | {"OIDC_ALGORITHMS": '["none"]'}, "IDENTITY_OIDC_ALGORITHMS"),
        (ISSUER | AUDIENCE | {"OIDC_ALGORITHMS": "[]"}, "IDENTITY_OIDC_ALGORITHMS"),
        (ISSUER | CLIENT | {"OIDC_SCOPES": "email profile"}, "IDENTITY_OIDC_SCOPES"),
        (AUDIENCE | {"OIDC_ISSUER": "http://login.example.com"}, "https://"),
        (AUDIENCE | {"OIDC_ISSUER": "http://10.0.0.1"}, "https://"),
        (AUDIENCE | {"OIDC_ISSUER": "http://127.0.0.1.example.com"}, "https://"),
        (AUDIENCE | {"OIDC_ISSUER": "http://localhost@example.com"}, "https://"),
        (AUDIENCE | {"OIDC_ISSUER": "ftp://login.example.com"}, "https://"),
        (AUDIENCE | {"OIDC_ISSUER": "login.example.com"}, "https://"),
        (AUDIENCE | {"OIDC_ISSUER": "https://user:secret@login.example.com"}, "no user"),
        (AUDIENCE | {"OIDC_ISSUER": "https://login.example.com?a=b"}, "no query"),
        (AUDIENCE | {"OIDC_ISSUER": "https://login.example.com#x"}, "fragment"),
    ],
    ids=str,
)
def test_half_a_configuration_is_refused_by_name(
    given: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"IDENTITY_{name}", value)
    with pytest.raises(SettingsError) as refusal:
        load_class(Settings)
    assert named in str(refusal.value)
    assert "secret@" not in str(refusal.value)
