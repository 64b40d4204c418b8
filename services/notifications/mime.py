"""The bytes of an e-mail: our one shape (text and HTML side by side, with the pictures of the HTML), written directly,
because the `email` package takes ten times as long.

No value can break out of its header: control characters become spaces, and what is not plain ASCII is encoded (RFC
2047). Bodies are quoted-printable where they are not plain, so that lines are short and no line can look like a
boundary.
"""

import base64
import binascii
import re

from services.notifications.rendering import InlinePicture, RenderedMessage

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
WORD_BYTES = 45
"""An encoded word may have 75 characters: 45 bytes are 60 of base64."""
MAX_SUBJECT = 200
MAX_LINE = 900
"""RFC 5322 has 998 for a line of a mail."""
_CONTROL_BYTES = bytes({*range(32), 127} - {9, 10, 13})
_BOUNDARY_SIGN = "=_"
"""How boundaries begin. No quoted-printable text can hold it."""


def encode_header(text: str) -> str:
    """A header value on one or more folded lines."""
    text = _CONTROL.sub(" ", text).strip()
    if text.isascii() and "=?" not in text:
        return text
    words: list[str] = []
    word = b""
    for character in text:
        encoded = character.encode("utf-8", "replace")
        if len(word) + len(encoded) > WORD_BYTES:
            words.append(_encode_word(word))
            word = b""
        word += encoded
    return "\r\n ".join([*words, _encode_word(word)])


def _encode_word(content: bytes) -> str:
    return f"=?utf-8?b?{base64.b64encode(content).decode()}?="


def encode_address(recipient: str) -> str:
    """An address for a header: the domain as it travels. A local part beyond ASCII stays as it is (RFC 6532)."""
    if recipient.isascii():
        return recipient
    local, _, domain = recipient.rpartition("@")
    try:
        return f"{local}@{domain.encode('idna').decode()}"
    except UnicodeError:
        return recipient


def encode_body(text: str) -> tuple[bytes, str]:
    """A part's content and its encoding: as it is, where it is printable ASCII on short lines and has nothing of a
    boundary, because that costs a tenth; else quoted-printable.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    content = "\r\n".join(lines).encode("utf-8", "replace")
    is_plain = text.isascii() and _BOUNDARY_SIGN not in text and max(map(len, lines)) <= MAX_LINE
    if is_plain and len(content.translate(None, _CONTROL_BYTES)) == len(content):
        return content, "7bit"
    return binascii.b2a_qp(content), "quoted-printable"


def compose_mail(message: RenderedMessage, sender: str, date: str) -> bytes:
    """The whole mail. `date` is RFC 5322; the Message-ID follows from the message's key, so that the same message is
    always the same message.
    """
    domain = sender.rpartition("@")[2].rstrip("> ")
    boundary = f"{_BOUNDARY_SIGN}{message.key}"
    extra = "".join(f"{name}: {encode_header(value)}\r\n" for name, value in message.headers)
    head = (
        f"From: {sender}\r\nTo: {encode_address(message.recipient)}\r\nSubject: "
        f"{encode_header(message.subject[:MAX_SUBJECT])}\r\nDate: {date}\r\n"
        f"Message-ID: <{message.key}@{domain}>\r\nAuto-Submitted: auto-generated\r\n{extra}MIME-Version: 1.0\r\n"
        f'Content-Type: multipart/alternative;\r\n boundary="{boundary}"\r\n\r\n'
    )
    return b"".join(
        (
            head.encode(),
            _build_part(boundary, "plain", message.text),
            _build_html(boundary, message),
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )


def _build_html(boundary: str, message: RenderedMessage) -> bytes:
    """The HTML, and the pictures that it shows, if any, as one part (RFC 2387)."""
    if not message.pictures:
        return _build_part(boundary, "html", message.html)
    related = f"{boundary}-related"
    head = f'\r\n--{boundary}\r\nContent-Type: multipart/related; type="text/html";\r\n boundary="{related}"\r\n'
    pictures = (_build_picture(related, picture) for picture in message.pictures)
    return b"".join(
        (head.encode(), _build_part(related, "html", message.html), *pictures, f"\r\n--{related}--".encode())
    )


def _build_picture(boundary: str, picture: InlinePicture) -> bytes:
    name = _CONTROL.sub("", picture.name)
    head = (
        f"\r\n--{boundary}\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\nContent-ID: <{name}>\r\n"
        f'Content-Disposition: inline; filename="{name}.png"\r\n\r\n'
    )
    return head.encode() + base64.encodebytes(picture.content).replace(b"\n", b"\r\n").rstrip()


def _build_part(boundary: str, kind: str, text: str) -> bytes:
    content, encoding = encode_body(text)
    content_type = f"Content-Type: text/{kind}; charset=utf-8"
    return f"\r\n--{boundary}\r\n{content_type}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + content
