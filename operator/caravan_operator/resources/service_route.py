"""ServiceRoute: how a service is found and called, and which of its paths are public."""

from caravan_operator.resources.kinds import DISCOVERY, Column, Kind, condition_column
from caravan_operator.resources.ownership import conditions_schema
from caravan_operator.resources.schema import (
    NAME_PATTERN,
    Schema,
    array_schema,
    cel_rule,
    duration_schema,
    enum_schema,
    integer_schema,
    object_schema,
    string_schema,
)

LABEL_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
_PATH_PATTERN = r"^/([A-Za-z0-9._~!$&'()*+,;=:@-]+(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)*)?$"
_HOST_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_NO_DOTS_RULE = cel_rule("!self.matches('(^|/)[.][.]?(/|$)')", "a path has no segments . and ..")

MAX_PODS = 20
"""Most gateway pods that the status lists."""


def _methods_schema(description: str) -> Schema:
    return array_schema(description, enum_schema("An HTTP method.", *_METHODS), len(_METHODS)) | {
        "x-kubernetes-list-type": "set"
    }


def _path_schema(description: str) -> Schema:
    return string_schema(description, max_length=256, min_length=1, pattern=_PATH_PATTERN, rules=(_NO_DOTS_RULE,))


_ROUTE_SCHEMA = object_schema(
    "Public paths, and the rules for them.",
    {
        "host": string_schema("Only requests to this host. Default: any.", min_length=1, pattern=_HOST_PATTERN),
        "pathPrefix": _path_schema("This path and all below it, by whole segments."),
        "pathExact": _path_schema("This path alone."),
        "pathsFrom": enum_schema(
            "OpenAPI: the paths that the service's own document at /openapi.json declares. Another route that names "
            "at least as much of a path goes before.",
            "OpenAPI",
        ),
        "methods": _methods_schema("Only these methods. Default: all."),
        "rewritePrefix": _path_schema("What pathPrefix is replaced by on the way to the service."),
        "auth": enum_schema(
            "Required: only with a valid access token. Optional (the default): a token is checked if there is one. "
            "None: tokens are not checked, and passed on.",
            "Required",
            "Optional",
            "None",
        ),
        "rateLimit": object_schema(
            "At most so many requests in a period, over all gateways. Default: the gateway's own limits for reads and "
            "writes.",
            {
                "requests": integer_schema("How many.", 1, 10_000_000),
                "period": duration_schema("In how long; whole seconds.", "1s", "24h"),
                "key": enum_schema(
                    "Counted for each User (the default; without a token for each address), each Address, or for the "
                    "whole Route.",
                    "User",
                    "Address",
                    "Route",
                ),
            },
            required=("requests", "period"),
        ),
    },
    rules=(
        cel_rule(
            "(has(self.pathPrefix) ? 1 : 0) + (has(self.pathExact) ? 1 : 0) + (has(self.pathsFrom) ? 1 : 0) == 1",
            "exactly one of pathPrefix, pathExact and pathsFrom",
        ),
        cel_rule(
            "!has(self.rewritePrefix) || has(self.pathPrefix)", "rewritePrefix goes with pathPrefix", ".rewritePrefix"
        ),
    ),
)

_SPEC_SCHEMA = object_schema(
    "How the service is found and called, and what of it is public.",
    {
        "gateway": string_schema(
            "Name of the gateway's Service in this namespace. Immutable. Default: gateway.",
            max_length=63,
            min_length=1,
            pattern=LABEL_PATTERN,
        ),
        "serviceRef": object_schema(
            "The Service whose endpoints answer.",
            {
                "name": string_schema(
                    "Name of a Service in this namespace.", max_length=63, min_length=1, pattern=NAME_PATTERN
                ),
                "port": {
                    "x-kubernetes-int-or-string": True,
                    "description": "Name or number of its port. Default: the only one.",
                    "maxLength": 63,
                },
            },
            required=("name",),
        ),
        "routes": array_schema(
            "What is public at the gateway. None: other services alone can call this one.", _ROUTE_SCHEMA, 32
        ),
        "timeouts": object_schema(
            "How long to wait.",
            {
                "request": duration_schema("Until an answer begins, over all attempts. Default: 10s.", "1ms", "1h"),
                "backendRequest": duration_schema(
                    "Until an answer begins, for one attempt. Default: the whole time that request gives.", "1ms", "1h"
                ),
                "connect": duration_schema("Until a connection is made. Default: 500ms.", "1ms", "1m"),
            },
            rules=(
                cel_rule(
                    "!has(self.request) || !has(self.backendRequest) || duration(self.backendRequest) <= "
                    "duration(self.request)",
                    "backendRequest can't be above request",
                    ".backendRequest",
                ),
            ),
        ),
        "retry": object_schema(
            "Which requests are tried again at another endpoint. One that reached nobody always is.",
            {
                "attempts": integer_schema("How often, after the first time. Default: 2.", 0, 5),
                "backoff": duration_schema("Pause before the first retry; it doubles. Default: 50ms.", "0s", "1m"),
                "codes": array_schema(
                    "Answers that are tried again. Default: 502, 503, 504.", integer_schema("A status.", 500, 599), 10
                ),
                "methods": _methods_schema("Methods that may be sent twice. Default: GET and HEAD."),
                "budgetPercent": integer_schema("Most retries, in percent of the requests. Default: 20.", 0, 100),
            },
        ),
        "circuitBreaker": object_schema(
            "When the service, or one of its endpoints, is left alone for a while.",
            {
                "window": duration_schema("Time over which failures are counted. Default: 10s.", "1s", "1h"),
                "minRequests": integer_schema(
                    "Requests in the window before the ratio counts. Default: 20.", 1, 100_000
                ),
                "failureRatio": {
                    "type": "number",
                    "description": "Part of them that failed. Default: 0.5.",
                    "minimum": 0.01,
                    "maximum": 1,
                },
                "consecutiveFailures": integer_schema("Failures in a row. Default: 5.", 1, 1000),
                "openFor": duration_schema("How long it is left alone. Default: 15s.", "100ms", "1h"),
                "halfOpenProbes": integer_schema("Requests that must succeed afterwards. Default: 3.", 1, 100),
                "maxEjectionPercent": integer_schema(
                    "Most endpoints that are left out at a time, in percent. Default: 50.", 0, 100
                ),
            },
        ),
        "limits": object_schema(
            "Bounds of one gateway process.",
            {
                "maxInFlight": integer_schema(
                    "Requests that one process may have open at this service. Default: no bound.", 1, 100_000
                )
            },
        ),
        "loadBalancing": enum_schema(
            "LeastRequest (the default): the endpoint with the fewest requests open. RoundRobin: each in turn.",
            "LeastRequest",
            "RoundRobin",
        ),
    },
    required=("serviceRef",),
    rules=(
        cel_rule(
            "has(self.gateway) == has(oldSelf.gateway) && (!has(self.gateway) || self.gateway == oldSelf.gateway)",
            "gateway is immutable",
            ".gateway",
        ),
    ),
)

_STATUS_SCHEMA = object_schema(
    "What the operator found and did. Written by the operator only.",
    {
        "observedGeneration": integer_schema("The generation of the spec that the status speaks of.", 0, 2**53),
        "conditions": conditions_schema(),
        "lastSyncTime": {"type": "string", "format": "date-time", "description": "When the status last changed."},
        "reconcileToken": string_schema(
            "The value of the annotation reconcile-now that was last answered.", max_length=253
        ),
        "endpoints": object_schema(
            "Endpoints of the service. `serving` ones answer; `terminating` ones are on their way out.",
            {
                name: integer_schema(f"How many are {name}.", 0, 1_000_000)
                for name in ("ready", "serving", "terminating")
            },
        ),
        "contentHash": string_schema("A hash over what the snapshot says of this resource.", max_length=71),
        "configRevision": string_schema("Revision of the snapshot that brought the present content.", max_length=71),
        "configSequence": integer_schema("Sequence of that snapshot; later ones have the same content.", 0, 2**53),
        "acknowledged": string_schema("Gateway pods that have this content, of all.", max_length=32),
        "gateways": array_schema(
            f"Gateway pods, the first {MAX_PODS}.",
            object_schema(
                "A pod.",
                {
                    "name": string_schema("Its name.", max_length=253, min_length=1),
                    "revision": string_schema(
                        "The revision that it had when it first had the present content; before, the one it has.",
                        max_length=71,
                    ),
                    "sequence": integer_schema("Sequence of that revision.", 0, 2**53),
                },
                required=("name",),
            ),
            MAX_PODS,
        )
        | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        "conflict": string_schema("The older resource that has one of these paths, as namespace/name.", max_length=320),
    },
)

SERVICE_ROUTE = Kind(
    name="ServiceRoute",
    plural="serviceroutes",
    short_name="sroute",
    description=(
        "A service as others find it: its name is the name that the shop knows it by. The gateways follow what all "
        "ServiceRoutes say together."
    ),
    group=DISCOVERY,
    connection_kind="Gateway",
    spec=_SPEC_SCHEMA,
    status=_STATUS_SCHEMA,
    rules=(
        cel_rule(
            f"size(self.metadata.name) <= 63 && self.metadata.name.matches('{LABEL_PATTERN}')",
            "the name is a service's: at most 63 lower-case letters, digits and dashes, a letter first",
        ),
    ),
    columns=(
        condition_column("Ready", "Ready"),
        condition_column("Reason", "Ready", "reason"),
        Column("Service", ".spec.serviceRef.name"),
        Column("Endpoints", ".status.endpoints.ready", "integer"),
        Column("Gateways", ".status.acknowledged"),
        Column("Revision", ".status.configRevision", priority=1),
        condition_column("Message", "Ready", "message", priority=1),
    ),
)
