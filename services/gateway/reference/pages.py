"""The HTML pages, served without anything from another host. Their scripts are allowed by hash."""

import base64
import hashlib
import html
from pathlib import Path

from fastapi.responses import Response

STATIC = Path(__file__).parent / "static"


class StaticPage:
    """A file of `static/` with the shared style, and with the scripts that it needs, put in."""

    def __init__(self, name: str, *scripts: str) -> None:
        script_text = "\n".join((STATIC / part).read_text() for part in scripts)
        page = (STATIC / name).read_text().replace("/* style */", (STATIC / "page.css").read_text())
        self._content = page.replace("/* script */", script_text).encode()
        digest = base64.b64encode(hashlib.sha256(script_text.encode()).digest()).decode()
        self._headers = {
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline';"
            f" script-src 'sha256-{digest}'; connect-src 'self'; img-src data:;"
            " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        }

    def build_response(self, url: str = "") -> Response:
        """`url`: how clients reach this shop, for the commands on the page."""
        return Response(
            self._content.replace(b"{{url}}", html.escape(url).encode()), headers=self._headers, media_type="text/html"
        )


LANDING = StaticPage("landing.html")
DOCS = StaticPage("docs.html", "reference.js", "docs.js")
GRAPHQL = StaticPage("graphql.html", "reference.js", "graphql.js")
MESSAGES = StaticPage("messages.html", "reference.js", "messages.js")
