"""Cleans foreign text for a status, an Event or a log line: one line, bounded, without control characters."""


def to_one_line(text: str, max_length: int) -> str:
    """Without control, format and bidirectional characters and half surrogate pairs; runs of blanks are one."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text[: max_length * 4])
    return " ".join(printable.split())[:max_length]
