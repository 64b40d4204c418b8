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
:root { color-scheme: light dark; --page: #f3f1ec; --card: #fff; --text: #23262a; --line: #8a867c; --accent: #0b5c5e;
--on-accent: #fff; }
@media (prefers-color-scheme: dark) { :root { --page: #15171a; --card: #212428; --text: #e9e7e3; --line: #7d838b;
--accent: #7ccfc4; --on-accent: #0d2220; } }
body { margin: 0; padding: 2rem 1rem; background: var(--page); color: var(--text); font: 16px/1.5 system-ui,
sans-serif; }
main { max-width: 30rem; margin: 0 auto; padding: 1.5rem; background: var(--card); border-radius: 8px; }
h1 { margin: 0 0 1rem; font-size: 1.4rem; line-height: 1.3; overflow-wrap: anywhere; }
label, input, select, button { display: block; font: inherit; }
input, select { width: 100%; box-sizing: border-box; padding: .6rem; margin: .25rem 0 1rem;
border: 1px solid var(--line); border-radius: 6px; background: var(--page); color: inherit; }
fieldset { margin: 0 0 1rem; padding: 0; border: 0; }
legend { padding: 0; font-weight: 600; }
fieldset label { display: flex; gap: .6rem; align-items: baseline; padding: .4rem 0; }
input[type=checkbox] { width: auto; margin: 0; accent-color: var(--accent); }
button { padding: .7rem 1.5rem; border: 0; border-radius: 6px; background: var(--accent); color: var(--on-accent);
font-weight: 600; cursor: pointer; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
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
