"""Pages for people: foreign text is text, and nothing is loaded or run."""

from markupsafe import Markup

from caravan.http.html_pages import render_html_page


def test_text_is_escaped_and_markup_stays() -> None:
    page = render_html_page("<Title>", "<script>", Markup("<b>{}</b>").format("<i>"), status=422)
    body = bytes(page.body).decode()
    assert page.status_code == 422
    assert "<title>&lt;Title&gt;</title>" in body
    assert "<p>&lt;script&gt;</p>" in body
    assert "<b>&lt;i&gt;</b>" in body


def test_a_page_is_not_stored_and_runs_nothing() -> None:
    headers = render_html_page("Title").headers
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "script-src" not in headers["content-security-policy"]
