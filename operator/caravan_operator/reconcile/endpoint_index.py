"""Services and EndpointSlices as far as discovery needs them: ports, and addresses with their states."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SERVICE_LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class Service:
    name: str
    ports: tuple[tuple[str, int], ...]
    """Names and numbers; a single port may have the name ''."""
    is_external: bool
    family: str
    """IPv4 or IPv6: the first of a service that has both."""

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> "Service":
        spec = body.get("spec") or {}
        ports = tuple((port.get("name") or "", int(port["port"])) for port in spec.get("ports") or ())
        family = next(iter(spec.get("ipFamilies") or ()), "IPv4")
        return cls(body["metadata"]["name"], ports, spec.get("type") == "ExternalName", family)

    def find_port(self, name_or_number: str | int | None) -> str | None:
        """Name of the port with this name or number, or of the only one; None when there is none such."""
        if name_or_number is None:
            return self.ports[0][0] if len(self.ports) == 1 else None
        return next((name for name, number in self.ports if name_or_number in (name or None, number)), None)


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    address: str
    port: int
    ready: bool
    serving: bool
    terminating: bool
    pod: str = ""


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """A part of a service's endpoints, all with the same ports."""

    name: str
    service: str
    family: str
    ports: tuple[tuple[str, int], ...]
    endpoints: tuple[Endpoint, ...]
    """Their port is 0: which of the ports counts, is for the reader to say."""

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> "EndpointSlice":
        meta = body["metadata"]
        ports = tuple(
            (port.get("name") or "", int(port["port"])) for port in body.get("ports") or () if port.get("port")
        )
        endpoints = tuple(_parse_endpoint(each) for each in body.get("endpoints") or () if each.get("addresses"))
        return cls(
            meta["name"],
            (meta.get("labels") or {}).get(SERVICE_LABEL, ""),
            body.get("addressType", ""),
            ports,
            endpoints,
        )


def _parse_endpoint(body: Mapping[str, Any]) -> Endpoint:
    """An unknown state counts as the API defines it: ready, serving like ready, not terminating."""
    states = body.get("conditions") or {}
    terminating = bool(states.get("terminating"))
    ready = states.get("ready") is not False and not terminating
    serving = ready if states.get("serving") is None else bool(states["serving"])
    return Endpoint(body["addresses"][0], 0, ready, serving, terminating, (body.get("targetRef") or {}).get("name", ""))


class EndpointIndex:
    """Services and EndpointSlices of one namespace."""

    def __init__(self, services: Iterable[Service] = (), slices: Iterable[EndpointSlice] = ()) -> None:
        self._services = {service.name: service for service in services}
        self._slices: dict[str, dict[str, EndpointSlice]] = defaultdict(dict)
        for each in slices:
            self.put_slice(each.service, each.name, each)

    def get_service(self, name: str) -> Service | None:
        return self._services.get(name)

    def put_service(self, service: Service) -> None:
        self._services[service.name] = service

    def drop_service(self, name: str) -> None:
        self._services.pop(name, None)

    def put_slice(self, service: str, name: str, current: EndpointSlice | None) -> bool:
        """Store a slice, or remove it with None. Returns whether anything has changed."""
        previous = self._slices[service].pop(name, None)
        if current is not None:
            self._slices[service][name] = current
        if not self._slices[service]:
            del self._slices[service]
        return current != previous

    def list_endpoints(self, service: Service, port: str) -> list[Endpoint]:
        """Sorted; an address that moves from one slice to another is for a moment in both, and counts once, by its
        better state.
        """
        best: dict[tuple[str, int], Endpoint] = {}
        for each in self._slices.get(service.name, {}).values():
            number = dict(each.ports).get(port)
            if number is None or each.family != service.family:
                continue
            for endpoint in each.endpoints:
                candidate = Endpoint(
                    endpoint.address, number, endpoint.ready, endpoint.serving, endpoint.terminating, endpoint.pod
                )
                previous = best.get((candidate.address, number))
                if previous is None or _rank_endpoint(candidate) > _rank_endpoint(previous):
                    best[candidate.address, number] = candidate
        return sorted(best.values())


def _rank_endpoint(endpoint: Endpoint) -> tuple[bool, bool, bool, str]:
    return endpoint.ready, endpoint.serving, not endpoint.terminating, endpoint.pod
