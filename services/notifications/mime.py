"""The bytes of an e-mail: our one shape (text and HTML side by side), written directly, because the `email` package takes ten times as long.

No value can break out of its header: control characters become spaces, and what is not plain ASCII is encoded (RFC 2047). Bodies are quoted-printable, so
that lines are short and no line can look like a boundary.
"""

import base64
import binascii
import re

from services.notifications.letters import Letter

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
WORD_BYTES = 45
"""An encoded word may have 75 characters: 45 bytes are 60 of base64."""
MAX_SUBJECT = 200


def header(text: str) -> str:
    """A header value on one or more folded lines."""
    text = _CONTROL.sub(" ", text).strip()
    if text.isascii() and "=?" not in text:
        return text
    words: list[str] = []
    word = b""
    for character in text:
        encoded = character.encode("utf-8", "replace")
        if len(word) + len(encoded) > WORD_BYTES:
            words.append(_word(word))
            word = b""
        word += encoded
    return "\r\n ".join([*words, _word(word)])


def _word(content: bytes) -> str:
    return f"=?utf-8?b?{base64.b64encode(content).decode()}?="


def address(recipient: str) -> str:
    """An address for a header: the domain as it travels. A local part beyond ASCII stays as it is (RFC 6532)."""
    if recipient.isascii():
        return recipient
    local, _, domain = recipient.rpartition("@")
    try:
        return f"{local}@{domain.encode('idna').decode()}"
    except UnicodeError:
        return recipient


def body(text: str) -> bytes:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
    return binascii.b2a_qp(lines.encode("utf-8", "replace"))


def compose(letter: Letter, sender: str, date: str) -> bytes:
    """The whole mail. `date` is RFC 5322; the Message-ID follows from the letter's key, so that the same letter is always the same message."""
    domain = sender.rpartition("@")[2].rstrip("> ")
    boundary = f"=_{letter.key}"  # no quoted-printable text can hold "=_"
    extra = "".join(f"{name}: {header(value)}\r\n" for name, value in letter.headers)
    head = (
        f"From: {sender}\r\nTo: {address(letter.recipient)}\r\nSubject: {header(letter.subject[:MAX_SUBJECT])}\r\nDate: {date}\r\n"
        f"Message-ID: <{letter.key}@{domain}>\r\nAuto-Submitted: auto-generated\r\n{extra}MIME-Version: 1.0\r\n"
        f'Content-Type: multipart/alternative;\r\n boundary="{boundary}"\r\n\r\n'
    )
    return b"".join(
        (
            head.encode(),
            _part(boundary, "plain"),
            body(letter.text),
            _part(boundary, "html"),
            body(letter.html),
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )


def _part(boundary: str, kind: str) -> bytes:
    return f"\r\n--{boundary}\r\nContent-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n".encode()
