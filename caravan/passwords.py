"""Passwords: the one rule of which may be set, for the shop's users and for the admin of the settings alike."""

import re
import unicodedata

from anyascii import anyascii
from zxcvbn_rs_py import zxcvbn

SHOP = "caravan"
FEWEST_GUESSES = 10**6
"""What an attacker who is slowed down could try; beyond it the delays of failed tries protect the account."""
JUDGED = 100
"""Characters of a password that are judged: 6 ms of CPU at most for each of its spellings."""
MAX_LENGTH = 128
_WORDS = re.compile(r"[^\W_]+")


def normal_password(password: str) -> str:
    """What is hashed: the same characters from every keyboard."""
    return unicodedata.normalize("NFKC", password)


def password_fault(password: str, email: str, name: str) -> str | None:
    """What is wrong with a new password beyond its length and its characters, if anything.

    Guesses are estimated by zxcvbn: from lists of common passwords, names and words, rows of keys, dates and repetitions, and from what an attacker knows of
    this user. Every password on those lists, also with a few signs more or other signs for letters, falls under `FEWEST_GUESSES`. The lists are of Latin
    letters and digits: accents, other scripts and signs around or between, which cost an attacker little, make no password better.
    """
    judged = normal_password(password)[:JUDGED]
    latin = anyascii(judged)[:JUDGED]
    spellings = {judged, latin, "".join(_WORDS.findall(latin))} - {""}
    known = sorted({email, *_WORDS.findall(f"{email} {name.lower()}"), SHOP}, key=len, reverse=True)
    rest = judged.lower()
    for word in known:
        rest = rest.replace(word, "") if len(word) > 2 else rest
    if len(set(rest)) < 4 or any(zxcvbn(spelling, known).guesses < FEWEST_GUESSES for spelling in spellings):
        return "is easily guessed: it is common, a pattern, or made of your name or address; take several words that don't belong together"
    return None
