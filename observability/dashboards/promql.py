"""Reads PromQL: which metrics and labels a query asks for, which labels its result has, and what is wrong with it."""

import re
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import promql_parser
from promql_parser import AggModifierType, AggregateExpr, BinaryExpr, LabelModifierType, VectorMatchCardinality

Labels = Mapping[str, AbstractSet[str]]
"""Of each metric."""
OF_COUNTERS = {"rate", "irate", "increase"}
AT_ANY_TYPE = {"count", "group", "absent", "timestamp", "last_over_time", "changes"}
KEEPS_SERIES = {"topk", "bottomk", "limitk"}
SET_OPERATORS = {"and", "or", "unless"}
GRAFANA_INTERVALS = re.compile(r"\$__(rate_interval|interval|range)")


def parse_query(text: str, interval: str = "5m") -> Any:
    """Grafana's own variables get a value; those of a dashboard stand in texts and stay."""
    return promql_parser.parse(GRAFANA_INTERVALS.sub(interval, text))


def list_metric_names(query: Any) -> set[str]:
    return {selector.name for selector, _ in iterate_selectors(query)}


def iterate_selectors(node: Any, functions: tuple[str, ...] = ()) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Each selector with the functions that it stands in, the innermost last."""
    match type(node).__name__:
        case "VectorSelector":
            yield node, functions
        case "MatrixSelector":
            yield node.vector_selector, functions
        case "Call":
            for argument in node.args:
                yield from iterate_selectors(argument, (*functions, node.func.name))
        case "AggregateExpr":
            yield from iterate_selectors(node.expr, (*functions, str(node.op)))
        case "BinaryExpr":
            yield from iterate_selectors(node.lhs, functions)
            yield from iterate_selectors(node.rhs, functions)
        case "ParenExpr" | "UnaryExpr" | "SubqueryExpr" | "Subquery":
            yield from iterate_selectors(node.expr, functions)


def list_output_labels(node: Any, labels: Labels, faults: list[str] | None = None) -> set[str]:
    """The labels that the result's series may have. What a grouping or a matching names and no series has is written
    into `faults`.
    """
    faults = [] if faults is None else faults
    match type(node).__name__:
        case "VectorSelector" | "MatrixSelector":
            return set(labels.get(getattr(node, "vector_selector", node).name, ()))
        case "AggregateExpr":
            return _aggregate_labels(node, labels, faults)
        case "BinaryExpr":
            return _match_labels(node, labels, faults)
        case "Call":
            return _call_labels(node, labels, faults)
        case "ParenExpr" | "UnaryExpr" | "SubqueryExpr" | "Subquery":
            return list_output_labels(node.expr, labels, faults)
    return set()


def _aggregate_labels(node: AggregateExpr, labels: Labels, faults: list[str]) -> set[str]:
    inner = list_output_labels(node.expr, labels, faults)
    named = set(node.modifier.labels) if node.modifier else set()
    faults += [f"{node.op} names {label}, which no series has" for label in sorted(named - inner)]
    if str(node.op) in KEEPS_SERIES:
        return inner
    if node.modifier and node.modifier.type == AggModifierType.Without:
        return inner - named
    return named


def _match_labels(node: BinaryExpr, labels: Labels, faults: list[str]) -> set[str]:
    left, right = (list_output_labels(side, labels, faults) for side in (node.lhs, node.rhs))
    if not left or not right:  # a number, or one series without labels
        return left | right
    matching = node.modifier.matching if node.modifier else None
    cardinality = node.modifier.card if node.modifier else VectorMatchCardinality.OneToOne
    operator = str(node.op)
    if matching is None and left != right and operator not in SET_OPERATORS:
        faults.append(f"{operator} matches {sorted(left)} with {sorted(right)}")
    if matching and matching.type == LabelModifierType.Include:
        for label in matching.labels:
            faults += [f"on names {label}, which one side lacks"] if label not in left & right else []
    if cardinality == VectorMatchCardinality.ManyToOne:
        return left | set(node.modifier.group_labels or () if node.modifier else ())
    if operator in SET_OPERATORS:
        return left | right if operator == "or" else left
    return left & right


def _call_labels(node: Any, labels: Labels, faults: list[str]) -> set[str]:
    inner = set().union(*(list_output_labels(argument, labels, faults) for argument in node.args))
    match node.func.name:
        case "histogram_quantile":
            faults += [] if "le" in inner else ["histogram_quantile of series without le"]
            return inner - {"le"}
        case "label_replace" | "label_join":
            return inner | {node.args[1].val}
        case "vector" | "scalar" | "time":
            return set()
    return inner


def find_faults(text: str, labels: Labels, counters: AbstractSet[str]) -> list[str]:
    """Why a query can't mean what it says; none for a good one."""
    try:
        query = parse_query(text)
    except ValueError as error:
        return [f"can't be read: {error}"]
    faults: list[str] = []
    for selector, functions in iterate_selectors(query):
        if selector.name not in labels:
            faults.append(f"{selector.name} is no declared metric")
            continue
        names = {matcher.name for matcher in selector.matchers.matchers}
        faults += [f"{selector.name} has no label {name}" for name in sorted(names - labels[selector.name])]
        is_rate, is_counter = bool(OF_COUNTERS & {*functions}), selector.name in counters
        if is_rate and not is_counter:
            faults.append(f"{functions[-1]}() of {selector.name}, which is no counter")
        if is_counter and not is_rate and not AT_ANY_TYPE & {*functions}:
            faults.append(f"{selector.name} is a counter: its value alone says nothing")
    list_output_labels(query, labels, faults)
    return faults
