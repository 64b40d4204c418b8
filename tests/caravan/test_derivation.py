"""Secrets for single purposes."""

from caravan.derivation import derive_secret


def test_a_secret_is_the_same_again_and_another_for_each_purpose_and_each_shop() -> None:
    assert derive_secret("s", "tokens") == derive_secret("s", "tokens")
    assert len({derive_secret(secret, purpose) for secret in ("s", "t") for purpose in ("tokens", "links")}) == 4
    assert "s3cret" not in derive_secret("s3cret", "tokens")
