"""The documents that the gateway serves about the whole shop: OpenAPI, merged from its services, and AsyncAPI."""

from importlib.metadata import version

import orjson

from services.gateway.known_services import list_channels
from services.gateway.reference.asyncapi import build_asyncapi
from services.gateway.reference.openapi import merge_documents
from services.gateway.routing.table import RouteTable

VERSION = version("caravan")


class ApiReference:
    """The generated documents, made again only when a service's routes have changed."""

    def __init__(self, table: RouteTable, url: str) -> None:
        self._table = table
        self._url = url
        self._version = -1
        self._openapi = b""
        self.asyncapi = orjson.dumps(build_asyncapi(list_channels(), VERSION))

    def render_openapi(self) -> bytes:
        if self._table.version != self._version:
            self._openapi = orjson.dumps(merge_documents(self._table.list_public_documents(), self._url, VERSION))
            self._version = self._table.version
        return self._openapi
