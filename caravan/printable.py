"""Escapes what a terminal would take for a command, or what would reorder text for a reader."""


def escape_unprintable(text: str, keep: str = "") -> str:
    """Control, format and bidi characters and line ends become `\\x1b`, `\\u202e`; a space of any kind becomes a plain
    one. `keep`: these stay.
    """
    if text.isprintable():
        return text
    return "".join(
        sign
        if sign.isprintable() or sign in keep
        else " "
        if sign.isspace() and sign > "\x85" and sign not in "\u2028\u2029"
        else _escape_character(sign)
        for sign in text
    )


def _escape_character(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")
