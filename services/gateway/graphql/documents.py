"""Documents of operations: found by their hash or read from the request, and refused before anything is planned when
they are too long, too deep, or not valid for the schema.

Reading costs as much as the text is long, and comparing fields of one name as much as the square of their number: both
are bounded before the parser and the validator see the document. `execution.py` says which documents are kept, by their
hash: those of operations that it accepted.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from graphql import (
    DocumentNode,
    ExecutableDefinitionNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    InlineFragmentNode,
    Lexer,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    SelectionSetNode,
    Source,
    TokenKind,
    parse,
    specified_rules,
    validate,
)

MAX_LENGTH = 32_000
MAX_TOKENS = 2000
MAX_BRACKETS = 60
"""How deep brackets of any kind may be nested: the parser calls itself for each."""
MAX_OPERATIONS = 10
"""In one document: each is checked with all fragments that it spreads."""
MAX_DEPTH = 15
MAX_ALIASES = 30
MAX_ROOT_FIELDS = 10
MAX_FIELDS = 1000
"""With those of fragments, as often as they are spread."""
MAX_REPEATED_FIELDS = 30
"""Fields that stand at a place where one of their name stands already."""
MAX_DIRECTIVES = 50
MAX_DOCUMENTS = 500
MAX_KEPT_TOKENS = 60_000
"""Of all documents that are kept: a token takes about 270 bytes of memory."""
_OPENING = frozenset({TokenKind.BRACE_L, TokenKind.BRACKET_L, TokenKind.PAREN_L})
_CLOSING = frozenset({TokenKind.BRACE_R, TokenKind.BRACKET_R, TokenKind.PAREN_R})


@dataclass(frozen=True, slots=True)
class KnownDocument:
    """A document that is valid for the schema. `node` knows no places in the text, which would take most of it."""

    hash: str
    tokens: int
    node: DocumentNode
    operations: Mapping[str, OperationDefinitionNode]
    fragments: dict[str, FragmentDefinitionNode]


class DocumentStore:
    """`trusted`: documents of a registry file by their hash. With `is_closed` no other is taken."""

    def __init__(
        self, schema: GraphQLSchema, trusted: Mapping[str, str], *, is_closed: bool, allow_introspection: bool
    ) -> None:
        self._schema = schema
        self._rules = (*specified_rules, *(() if allow_introspection else (NoSchemaIntrospectionCustomRule,)))
        self._is_closed = is_closed
        self._kept: dict[str, KnownDocument] = {}
        self._kept_tokens = 0
        self._trusted = {digest: self._check_document(digest, text) for digest, text in trusted.items()}

    def get_document(self, text: str | None, digest: str | None) -> KnownDocument:
        """The document of a request, by its text, its SHA-256 in hex, or both. Raises GraphQLError."""
        if text is not None:
            if len(text) > MAX_LENGTH:
                raise GraphQLError(f"the document is {len(text)} characters long; at most {MAX_LENGTH} are taken")
            actual = compute_hash(text)
            if digest is not None and digest.lower() != actual:
                raise GraphQLError("the hash is not that of the document; send the SHA-256 of its text in hex")
            digest = actual
        elif digest is None:
            raise GraphQLError("there is no document; send it as `query`")
        known = self._trusted.get(digest.lower()) or (None if self._is_closed else self._kept.get(digest.lower()))
        if known is not None:
            return known
        if self._is_closed:
            raise GraphQLError(
                "this shop takes trusted documents only; add the document to its registry and send its hash",
                extensions={"code": "DOCUMENT_NOT_TRUSTED"},
            )
        if text is None:
            raise GraphQLError(
                "no document with this hash is known; send its text, too",
                extensions={"code": "PERSISTED_QUERY_NOT_FOUND"},
            )
        return self._check_document(digest, text)

    def keep_document(self, document: KnownDocument) -> None:
        """From now on it is known by its hash, until newer ones take its place."""
        if document.hash in self._trusted or document.hash in self._kept:
            return
        self._kept[document.hash] = document
        self._kept_tokens += document.tokens
        while self._kept_tokens > MAX_KEPT_TOKENS or len(self._kept) > MAX_DOCUMENTS:
            oldest = next(iter(self._kept))
            self._kept_tokens -= self._kept.pop(oldest).tokens

    def _check_document(self, digest: str, text: str) -> KnownDocument:
        tokens = check_tokens(text)
        located = parse(text)  # so that an error says where it is
        operations, fragments = _index_definitions(located)
        Measure(fragments).check_operations(operations.values())
        errors = validate(self._schema, located, self._rules, max_errors=5)
        if errors:
            raise DocumentInvalid(errors)
        node = parse(text, no_location=True)
        return KnownDocument(digest, tokens, node, *_index_definitions(node))


class DocumentInvalid(Exception):
    """The document doesn't fit the schema."""

    def __init__(self, errors: list[GraphQLError]) -> None:
        super().__init__(str(errors[0]))
        self.errors = errors


def compute_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def check_tokens(text: str) -> int:
    """How many there are. Raises GraphQLError for more, or for brackets nested deeper, than a document may have."""
    lexer = Lexer(Source(text))
    count = depth = directives = 0
    while (token := lexer.advance()).kind != TokenKind.EOF:
        count += 1
        depth += (token.kind in _OPENING) - (token.kind in _CLOSING)
        directives += token.kind == TokenKind.AT
        if count > MAX_TOKENS:
            raise _build_refusal("tokens", MAX_TOKENS)
        if depth > MAX_BRACKETS:
            raise _build_refusal("brackets inside each other", MAX_BRACKETS)
        if directives > MAX_DIRECTIVES:
            raise _build_refusal("directives", MAX_DIRECTIVES)
    return count


class Measure:
    """Counts what the operations of a document have together when their fragments are spread, and stops at the first
    limit that is passed. A fragment that none of them spreads would be validated uncounted, so it is refused.
    """

    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._fields = self._aliases = self._repeated = 0
        self._spread: set[str] = set()

    def check_operations(self, operations: Iterable[OperationDefinitionNode]) -> None:
        for operation in operations:
            self._visit([operation.selection_set], 1)
        unused = self._fragments.keys() - self._spread
        if unused:
            raise GraphQLError(f"no operation spreads the fragment {min(unused)}; leave it out")

    def _visit(self, selection_sets: list[SelectionSetNode], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise _build_refusal("levels", MAX_DEPTH)
        children: dict[str, list[SelectionSetNode]] = {}
        count = 0
        for selection_set in selection_sets:
            for node in self._list_fields(selection_set, ()):
                count += 1
                if depth == 1 and count > MAX_ROOT_FIELDS:
                    raise _build_refusal("fields at the root", MAX_ROOT_FIELDS)
                name = (node.alias or node.name).value
                self._repeated += name in children
                if self._repeated > MAX_REPEATED_FIELDS:
                    raise _build_refusal("fields that stand there already", MAX_REPEATED_FIELDS)
                below = children.setdefault(name, [])
                if node.selection_set:
                    below.append(node.selection_set)
        for below in children.values():
            if below:
                self._visit(below, depth + 1)

    def _list_fields(self, selection_set: SelectionSetNode, open_fragments: tuple[str, ...]) -> Iterator[FieldNode]:
        for node in selection_set.selections:
            if isinstance(node, FieldNode):
                self._fields += 1
                self._aliases += node.alias is not None
                if self._fields > MAX_FIELDS:
                    raise _build_refusal("fields", MAX_FIELDS)
                if self._aliases > MAX_ALIASES:
                    raise _build_refusal("aliases", MAX_ALIASES)
                yield node
            elif isinstance(node, InlineFragmentNode):
                yield from self._list_fields(node.selection_set, open_fragments)
            elif isinstance(node, FragmentSpreadNode):
                yield from self._list_fragment(node.name.value, open_fragments)

    def _list_fragment(self, name: str, open_fragments: tuple[str, ...]) -> Iterator[FieldNode]:
        if name in open_fragments:
            raise GraphQLError(f"the fragment {name} holds itself; a fragment may not")
        if len(open_fragments) > MAX_DEPTH:
            raise _build_refusal("fragments inside each other", MAX_DEPTH)
        self._spread.add(name)
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise _build_refusal("fields", MAX_FIELDS)
        if name in self._fragments:  # else the validator says so
            yield from self._list_fields(self._fragments[name].selection_set, (*open_fragments, name))


def _index_definitions(
    node: DocumentNode,
) -> tuple[dict[str, OperationDefinitionNode], dict[str, FragmentDefinitionNode]]:
    """By their names; an operation without one has the empty name. Raises GraphQLError for a name that is there twice,
    since one of the two would not be counted.
    """
    operations: dict[str, OperationDefinitionNode] = {}
    fragments: dict[str, FragmentDefinitionNode] = {}
    for item in node.definitions:
        name = item.name.value if isinstance(item, ExecutableDefinitionNode) and item.name else ""
        if isinstance(item, OperationDefinitionNode):
            if operations.setdefault(name, item) is not item:
                raise GraphQLError(f"two operations are called {name or 'nothing'}; give each a name of its own")
        elif isinstance(item, FragmentDefinitionNode):
            if fragments.setdefault(name, item) is not item:
                raise GraphQLError(f"two fragments are called {name}; give each a name of its own")
        else:
            raise GraphQLError("a document holds operations and fragments only")
    if len(operations) > MAX_OPERATIONS:
        raise _build_refusal("operations", MAX_OPERATIONS)
    return operations, fragments


def _build_refusal(counted: str, most: int) -> GraphQLError:
    return GraphQLError(f"the document has more than {most} {counted}; ask for less at a time")
