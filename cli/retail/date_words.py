"""The words of dates in invoice files: months and weekdays in the languages of the known exports, and time zones.

`timestamps.py` finds them by its patterns.
"""

import re
import unicodedata
from datetime import timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan ene gen sty",
            "feb fev lut",
            "mar maa mrt",
            "apr avr abr kwi",
            "may mai mei mag maj",
            "jun juin giu cze",
            "jul juil lug lip",
            "aug aou ago sie",
            "sep set wrz",
            "oct okt ott out paz",
            "nov lis",
            "dec dez dic gru",
        ),
        start=1,
    )
    for name in names.split()
}
"""By their first letters, without accents."""
WEEKDAYS = frozenset(
    """
    mon monday tue tues tuesday wed wednesday thu thur thurs thursday fri friday sat saturday sun sunday
    mo montag di dienstag mi mittwoch do donnerstag fr freitag sa samstag sonnabend so sonntag
    lun lundi mar mardi mer mercredi jeu jeudi ven vendredi sam samedi dim dimanche
    lunes martes mie miercoles jue jueves vie viernes sab sabado dom domingo lunedi martedi mercoledi giovedi venerdi
    sabato domenica ma maandag dinsdag wo woensdag donderdag vr vrijdag za zaterdag zo zondag
    """.split()
)
_HOURS = {
    hours: names.split()
    for hours, names in {
        0: "z utc gmt wet",
        1: "cet mez bst west",
        2: "cest mesz eet",
        3: "eest msk",
        9: "jst kst",
        -4: "edt",
        -5: "est cdt",
        -6: "cst mdt",
        -7: "mst pdt",
        -8: "pst",
    }.items()
}
_ZONES = {name: timezone(timedelta(hours=hours)) for hours, names in _HOURS.items() for name in names}
"""The abbreviations of exports: Europe's, and of the others those of the United States and Japan."""
_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])([0-9]{1,2})(?::?([0-9]{2}))?(?:\s*[(\[].*[)\]])?", re.IGNORECASE)


def fold_accents(word: str) -> str:
    return "".join(sign for sign in unicodedata.normalize("NFKD", word.casefold()) if not unicodedata.combining(sign))


def find_month(name: str) -> int:
    """ValueError by way of `datetime` when it is none: there is no month 0."""
    plain = fold_accents(name)
    return _MONTHS.get(plain[:4]) or _MONTHS.get(plain[:3], 0)


def parse_zone(text: str) -> tzinfo:
    """ValueError for a zone that is not known: a time in it would be wrong by hours."""
    text = text.strip()
    if offset_match := _OFFSET.fullmatch(text):
        shift = timedelta(hours=int(offset_match[2]), minutes=int(offset_match[3] or 0))
        return timezone(-shift if offset_match[1] == "-" else shift)
    word = re.sub(r"\s*[(\[].*[)\]]$", "", text)
    if not word or word.casefold() in _ZONES:
        return _ZONES[word.casefold() or "utc"]
    if not re.fullmatch(r"[A-Za-z_]+(?:/[A-Za-z_+-]+){1,2}", word):
        raise ValueError(word)
    try:
        return ZoneInfo(word)
    except (KeyError, OSError) as error:
        raise ValueError(word) from error
