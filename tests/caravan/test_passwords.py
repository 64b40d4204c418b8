"""Which passwords may be set. tests/services/identity asks the same of the routes."""

import pytest

from caravan.passwords import find_password_weakness, normalize_password


@pytest.mark.parametrize("password", ["correct horse battery staple", "Zq8#vLw2!pRt", "kamele trinken selten tee"])
def test_several_words_or_random_characters_are_strong_enough(password: str) -> None:
    assert find_password_weakness(password, "ada@example.com", "Ada Lovelace") is None


@pytest.mark.parametrize(
    "password", ["password12", "ada@example.com", "Lovelace1815", "caravancaravan", "aaaaaaaaaaaa", "pässwörd1234", ""]
)
def test_what_is_common_or_made_of_the_users_name_is_refused_with_the_reason(password: str) -> None:
    weakness = find_password_weakness(password, "ada@example.com", "Ada Lovelace")
    assert weakness is not None
    assert weakness.startswith("is easily guessed")


def test_the_same_characters_from_every_keyboard_are_one_password() -> None:
    assert normalize_password("ｐａｓｓ") == "pass"
    assert normalize_password("é") == normalize_password("é")
