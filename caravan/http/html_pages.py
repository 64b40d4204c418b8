"""Small HTML pages for people who follow a link in a mail: without scripts, and with headers that forbid framing,
caching and referrers.
"""

import base64
import hashlib
from typing import Any

from fastapi.responses import Response
from markupsafe import Markup

from caravan.http.problems import PROBLEMS

_STYLE = Markup(
    """
:root { color-scheme: light dark; }
body { margin: 0; padding: 2rem 1rem; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 32rem; margin: 0 auto; }
label, input, button { display: block; font: inherit; }
input { width: 100%; box-sizing: border-box; padding: .5rem; margin: .25rem 0 1rem; }
button { padding: .5rem 1.25rem; }
"""
)
_STYLE_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_PAGE = Markup(
    '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    '<meta name="robots" content="noindex"><title>{title}</title><style>{style}</style></head>\n'
    "<body><main>\n<h1>{title}</h1>\n{content}\n</main></body>\n</html>\n"
)


def document_html_responses(**descriptions: str) -> dict[int | str, dict[str, Any]]:
    """The responses of a route that answers people, by status (`s200="the form"`), for the OpenAPI document; what is no
    form at all gets a problem document.
    """
    html = {"text/html": {"schema": {"type": "string"}}}
    return {
        int(status[1:]): {
            "description": text,
            "content": {**PROBLEMS.get(int(status[1:]), {}).get("content", {}), **html},
        }
        for status, text in descriptions.items()
    }


def render_html_page(title: str, *content: str, status: int = 200) -> Response:
    """Plain text becomes paragraphs, escaped; `Markup` stays as it is, and escapes what `format` puts into it."""
    blocks = [block if isinstance(block, Markup) else Markup("<p>{}</p>").format(block) for block in content]
    page = _PAGE.format(title=title, style=_STYLE, content=Markup("\n").join(blocks))
    return Response(page, status, _HEADERS, "text/html")
