"""The one rule of which passwords may be set, for users and for the admin of the settings alike."""

import re
import unicodedata

from anyascii import anyascii
from zxcvbn_rs_py import zxcvbn

_SHOP_NAME = "caravan"
_MIN_GUESSES = 10**6
"""What an attacker who is slowed down could try; beyond it the delays of failed tries protect the account."""
_MAX_CHECKED_LENGTH = 100
"""Characters of a password that are judged: 6 ms of CPU at most for each of its spellings."""
MAX_LENGTH = 128
_WORDS = re.compile(r"[^\W_]+")


def normalize_password(password: str) -> str:
    """What is hashed: the same characters from every keyboard."""
    return unicodedata.normalize("NFKC", password)


def find_password_weakness(password: str, email: str, name: str) -> str | None:
    """What is wrong with a new password beyond its length and its characters, if anything.

    Guesses are estimated by zxcvbn: from lists of common passwords, names and words, rows of keys, dates and
    repetitions, and from what an attacker knows of this user. Every password on those lists, also with a few signs more
    or other signs for letters, falls under `FEWEST_GUESSES`. The lists are of Latin letters and digits: accents, other
    scripts and signs around or between, which cost an attacker little, make no password better.
    """
    candidate = normalize_password(password)[:_MAX_CHECKED_LENGTH]
    latin = anyascii(candidate)[:_MAX_CHECKED_LENGTH]
    spellings = {candidate, latin, "".join(_WORDS.findall(latin))} - {""}
    known_words = sorted({email, *_WORDS.findall(f"{email} {name.lower()}"), _SHOP_NAME}, key=len, reverse=True)
    remainder = candidate.lower()
    for word in known_words:
        remainder = remainder.replace(word, "") if len(word) > 2 else remainder
    if len(set(remainder)) < 4 or any(zxcvbn(spelling, known_words).guesses < _MIN_GUESSES for spelling in spellings):
        return (
            "is easily guessed: it is common, a pattern, or made of your name or address; take several words that "
            "don't belong together"
        )
    return None
