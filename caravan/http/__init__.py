"""HTTP as all services speak it: the application and its middleware, problem documents, pages, entity tags, streams,
and answers from the cache.

Services import from here; the modules beside know each other only.
"""

from caravan.http.app import SLOW_READ, create_app
from caravan.http.cached import CACHED_HEADERS, IfNoneMatch, format_cache_status, make_cached_response
from caravan.http.content_negotiation import choose_content_type
from caravan.http.context import Injected
from caravan.http.head import answer_head
from caravan.http.headers import document_headers
from caravan.http.html_pages import document_html_responses, render_html_page
from caravan.http.middleware import (
    BODY_BOUNDED,
    FORWARDER_HEADER,
    SECONDS_HEADER,
    App,
    Receive,
    RequestBody,
    RequestMiddleware,
    Scope,
    Send,
    derive_forwarder_key,
    is_task_exit,
    refuse_repeated_headers,
)
from caravan.http.pagination import (
    CursorParameter,
    IfMatch,
    Limit,
    check_if_match,
    decode_cursor,
    encode_cursor,
    format_entity_tag,
    make_json_response,
    make_page_response,
    parse_text_part,
    render_page,
)
from caravan.http.parameters import FREE_PARAMETERS
from caravan.http.problems import (
    PROBLEMS,
    ProblemDocument,
    add_problem_handlers,
    build_problem_document,
    convert_to_problem,
    format_allow_header,
    make_problem_response,
)
from caravan.http.repeated_reads import RepeatedReadRoute, remember_read
from caravan.http.streams import EVENT_STREAM_TYPE, EventStream

__all__ = [
    "BODY_BOUNDED",
    "CACHED_HEADERS",
    "EVENT_STREAM_TYPE",
    "FORWARDER_HEADER",
    "FREE_PARAMETERS",
    "PROBLEMS",
    "SECONDS_HEADER",
    "SLOW_READ",
    "App",
    "CursorParameter",
    "EventStream",
    "IfMatch",
    "IfNoneMatch",
    "Injected",
    "Limit",
    "ProblemDocument",
    "Receive",
    "RepeatedReadRoute",
    "RequestBody",
    "RequestMiddleware",
    "Scope",
    "Send",
    "add_problem_handlers",
    "answer_head",
    "build_problem_document",
    "check_if_match",
    "choose_content_type",
    "convert_to_problem",
    "create_app",
    "decode_cursor",
    "derive_forwarder_key",
    "document_headers",
    "document_html_responses",
    "encode_cursor",
    "format_allow_header",
    "format_cache_status",
    "format_entity_tag",
    "is_task_exit",
    "make_cached_response",
    "make_json_response",
    "make_page_response",
    "make_problem_response",
    "parse_text_part",
    "refuse_repeated_headers",
    "remember_read",
    "render_html_page",
    "render_page",
]
