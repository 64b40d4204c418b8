"""ServiceRoute: how a service is found and called, and which of its paths are public."""

from caravan_operator.resources.kinds import DISCOVERY, Column, Kind, condition_column
from caravan_operator.resources.ownership import conditions
from caravan_operator.resources.schema import NAME, Schema, array, choice, duration, fields, integer, rule, string

LABEL = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
_PATH = r"^/([A-Za-z0-9._~!$&'()*+,;=:@-]+(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)*)?$"
_HOST = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_NO_DOTS = rule("!self.matches('(^|/)[.][.]?(/|$)')", "a path has no segments . and ..")

PODS = 20
"""Most gateway pods that the status lists."""


def _methods(description: str) -> Schema:
    return array(description, choice("An HTTP method.", *_METHODS), len(_METHODS)) | {"x-kubernetes-list-type": "set"}


def _path(description: str) -> Schema:
    return string(description, longest=256, shortest=1, pattern=_PATH, rules=(_NO_DOTS,))


_ROUTE = fields(
    "Public paths, and the rules for them.",
    {
        "host": string("Only requests to this host. Default: any.", shortest=1, pattern=_HOST),
        "pathPrefix": _path("This path and all below it, by whole segments."),
        "pathExact": _path("This path alone."),
        "pathsFrom": choice(
            "OpenAPI: the paths that the service's own document at /openapi.json declares. Another route that names at least as much of a path goes before.",
            "OpenAPI",
        ),
        "methods": _methods("Only these methods. Default: all."),
        "rewritePrefix": _path("What pathPrefix is replaced by on the way to the service."),
        "auth": choice(
            "Required: only with a valid access token. Optional (the default): a token is checked if there is one. None: tokens are not checked, and passed on.",
            "Required",
            "Optional",
            "None",
        ),
        "rateLimit": fields(
            "At most so many requests in a period, over all gateways. Default: the gateway's own limits for reads and writes.",
            {
                "requests": integer("How many.", 1, 10_000_000),
                "period": duration("In how long; whole seconds.", "1s", "24h"),
                "key": choice(
                    "Counted for each User (the default; without a token for each address), each Address, or for the whole Route.",
                    "User",
                    "Address",
                    "Route",
                ),
            },
            required=("requests", "period"),
        ),
    },
    rules=(
        rule(
            "(has(self.pathPrefix) ? 1 : 0) + (has(self.pathExact) ? 1 : 0) + (has(self.pathsFrom) ? 1 : 0) == 1",
            "exactly one of pathPrefix, pathExact and pathsFrom",
        ),
        rule("!has(self.rewritePrefix) || has(self.pathPrefix)", "rewritePrefix goes with pathPrefix", ".rewritePrefix"),
    ),
)

_SPEC = fields(
    "How the service is found and called, and what of it is public.",
    {
        "gateway": string(
            "Name of the gateway's Service in this namespace. Immutable. Default: gateway.", longest=63, shortest=1, pattern=LABEL
        ),
        "serviceRef": fields(
            "The Service whose endpoints answer.",
            {
                "name": string("Name of a Service in this namespace.", longest=63, shortest=1, pattern=NAME),
                "port": {
                    "x-kubernetes-int-or-string": True,
                    "description": "Name or number of its port. Default: the only one.",
                    "maxLength": 63,
                },
            },
            required=("name",),
        ),
        "routes": array("What is public at the gateway. None: other services alone can call this one.", _ROUTE, 32),
        "timeouts": fields(
            "How long to wait.",
            {
                "request": duration("Until an answer begins, over all attempts. Default: 10s.", "1ms", "1h"),
                "backendRequest": duration(
                    "Until an answer begins, for one attempt. Default: the whole time that request gives.", "1ms", "1h"
                ),
                "connect": duration("Until a connection is made. Default: 500ms.", "1ms", "1m"),
            },
            rules=(
                rule(
                    "!has(self.request) || !has(self.backendRequest) || duration(self.backendRequest) <= duration(self.request)",
                    "backendRequest can't be above request",
                    ".backendRequest",
                ),
            ),
        ),
        "retry": fields(
            "Which requests are tried again at another endpoint. One that reached nobody always is.",
            {
                "attempts": integer("How often, after the first time. Default: 2.", 0, 5),
                "backoff": duration("Pause before the first retry; it doubles. Default: 50ms.", "0s", "1m"),
                "codes": array("Answers that are tried again. Default: 502, 503, 504.", integer("A status.", 500, 599), 10),
                "methods": _methods("Methods that may be sent twice. Default: GET and HEAD."),
                "budgetPercent": integer("Most retries, in percent of the requests. Default: 20.", 0, 100),
            },
        ),
        "circuitBreaker": fields(
            "When the service, or one of its endpoints, is left alone for a while.",
            {
                "window": duration("Time over which failures are counted. Default: 10s.", "1s", "1h"),
                "minRequests": integer("Requests in the window before the ratio counts. Default: 20.", 1, 100_000),
                "failureRatio": {
                    "type": "number",
                    "description": "Part of them that failed. Default: 0.5.",
                    "minimum": 0.01,
                    "maximum": 1,
                },
                "consecutiveFailures": integer("Failures in a row. Default: 5.", 1, 1000),
                "openFor": duration("How long it is left alone. Default: 15s.", "100ms", "1h"),
                "halfOpenProbes": integer("Requests that must succeed afterwards. Default: 3.", 1, 100),
                "maxEjectionPercent": integer("Most endpoints that are left out at a time, in percent. Default: 50.", 0, 100),
            },
        ),
        "limits": fields(
            "Bounds of one gateway process.",
            {"maxInFlight": integer("Requests that one process may have open at this service. Default: no bound.", 1, 100_000)},
        ),
        "loadBalancing": choice(
            "LeastRequest (the default): the endpoint with the fewest requests open. RoundRobin: each in turn.",
            "LeastRequest",
            "RoundRobin",
        ),
    },
    required=("serviceRef",),
    rules=(
        rule(
            "has(self.gateway) == has(oldSelf.gateway) && (!has(self.gateway) || self.gateway == oldSelf.gateway)",
            "gateway is immutable",
            ".gateway",
        ),
    ),
)

_STATUS = fields(
    "What the operator found and did. Written by the operator only.",
    {
        "observedGeneration": integer("The generation of the spec that the status speaks of.", 0, 2**53),
        "conditions": conditions(),
        "lastSyncTime": {"type": "string", "format": "date-time", "description": "When the status last changed."},
        "reconcileToken": string("The value of the annotation reconcile-now that was last answered.", longest=253),
        "endpoints": fields(
            "Endpoints of the service. `serving` ones answer; `terminating` ones are on their way out.",
            {name: integer(f"How many are {name}.", 0, 1_000_000) for name in ("ready", "serving", "terminating")},
        ),
        "contentHash": string("A hash over what the snapshot says of this resource.", longest=71),
        "configRevision": string("Revision of the snapshot that brought the present content.", longest=71),
        "configSequence": integer("Sequence of that snapshot; later ones have the same content.", 0, 2**53),
        "acknowledged": string("Gateway pods that have this content, of all.", longest=32),
        "gateways": array(
            f"Gateway pods, the first {PODS}.",
            fields(
                "A pod.",
                {
                    "name": string("Its name.", longest=253, shortest=1),
                    "revision": string(
                        "The revision that it had when it first had the present content; before, the one it has.", longest=71
                    ),
                    "sequence": integer("Sequence of that revision.", 0, 2**53),
                },
                required=("name",),
            ),
            PODS,
        )
        | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        "conflict": string("The older resource that has one of these paths, as namespace/name.", longest=320),
    },
)

SERVICE_ROUTE = Kind(
    name="ServiceRoute",
    plural="serviceroutes",
    short="sroute",
    description="A service as others find it: its name is the name that the shop knows it by. The gateways follow what all ServiceRoutes say together.",
    group=DISCOVERY,
    connection="Gateway",
    spec=_SPEC,
    status=_STATUS,
    rules=(
        rule(
            f"size(self.metadata.name) <= 63 && self.metadata.name.matches('{LABEL}')",
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
