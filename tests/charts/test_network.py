"""Who reaches whom, in the rendered charts: network policies, ingress, routes."""

import pytest
import yaml

from services.gateway.settings import parse_networks
from services.registry import SERVICES
from tests.charts.conftest import CHARTS, KUBERNETES, Manifest, helm, of_kind, rendered
from tests.charts.releases import every_release


@pytest.mark.parametrize("release", ["kind", "lite", "production"])
def test_only_the_gateway_is_reached_from_outside_and_not_its_probes(release: str) -> None:
    manifests = rendered(release)
    backends = [
        path["backend"]["service"]
        for ingress in of_kind(manifests, "Ingress").values()
        for rule in ingress["spec"]["rules"]
        for path in rule["http"]["paths"]
    ]
    assert all(backend == {"name": "shop-gateway", "port": {"name": "http"}} for backend in backends)
    assert {service["spec"].get("type", "ClusterIP") for service in of_kind(manifests, "Service").values()} == {
        "ClusterIP"
    }
    opened = {
        name
        for name, policy in of_kind(manifests, "NetworkPolicy").items()
        for rule in policy["spec"].get("ingress", [])
        if {"port": "http"} in rule["ports"] and any("namespaceSelector" in peer for peer in rule["from"])
    }
    assert opened == {"shop-gateway"}


def test_a_service_may_call_those_whose_client_it_uses_and_no_others() -> None:
    policies = of_kind(rendered("kind"), "NetworkPolicy")
    assert policies["shop-deny-all"]["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & policies["shop-deny-all"]["spec"].keys()
    called = {
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        for rule in policies["shop-orders"]["spec"]["egress"]
        if rule["ports"] == [{"port": 8080}]
        for peer in rule["to"]
    }
    assert called == {"catalog", "identity", "inventory", "payments"}


def peers(manifests: list[Manifest]) -> list[tuple[str, Manifest]]:
    return [
        (name, peer)
        for name, policy in of_kind(manifests, "NetworkPolicy").items()
        for rule in policy["spec"].get("ingress", []) + policy["spec"].get("egress", [])
        for peer in rule.get("from", []) + rule.get("to", [])
    ]


@every_release
@pytest.mark.parametrize("more", ["", "allNamespaces=true", "namespaces={shop,store}"])
def test_a_label_that_anybody_may_give_a_pod_opens_nothing_from_another_namespace(release: str, more: str) -> None:
    if more and release != "operator":
        more = ""
    found = peers(rendered(release, *(("--set", more) if more else ())))
    assert found
    for name, peer in found:
        assert "namespaceSelector" not in peer or any(peer["namespaceSelector"].values()), (
            f"{name}: pods of any namespace"
        )
        assert "ipBlock" not in peer or not peer["ipBlock"]["cidr"].endswith("/0"), name


def test_the_operator_answers_the_namespaces_that_it_serves_and_the_shop_asks_where_its_url_says() -> None:
    def asked(*namespaces: str) -> list[Manifest]:
        given = ("--set", f"namespaces={{{','.join(namespaces)}}}") if namespaces else ()
        (policy,) = of_kind(rendered("operator", *given), "NetworkPolicy").values()
        return next(rule["from"] for rule in policy["spec"]["ingress"] if rule["ports"] == [{"port": "snapshots"}])

    for served in (("shop",), ("shop", "store")):
        (peer,) = asked(*served)
        assert peer["namespaceSelector"]["matchExpressions"][0]["values"] == list(served)
        assert peer["podSelector"]["matchLabels"] == {"app.kubernetes.io/part-of": "caravan"}
    assert asked() == asked("shop"), "its own namespace"
    for url, namespace in {
        "http://operator:8081": "shop",
        "http://operator.ops:8081": "ops",
        "https://operator.ops.svc.cluster.local:8081": "ops",
    }.items():
        policy = of_kind(rendered("kind", "--set", f"discovery.operatorUrl={url}"), "NetworkPolicy")["shop-orders"][
            "spec"
        ]
        asks = [peer for rule in policy["egress"] if rule["ports"] == [{"port": 8081}] for peer in rule["to"]]
        is_asked = [
            peer for rule in policy["ingress"] if rule["ports"] == [{"port": "probes"}] for peer in rule["from"]
        ]
        (peer,) = asks
        assert peer["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
        assert peer in is_asked


def test_each_service_is_a_route_and_public_only_where_it_serves_clients() -> None:
    facts = yaml.safe_load((CHARTS / "caravan/files/services.yaml").read_text())
    routes = of_kind(rendered("kind"), "ServiceRoute")
    assert routes.keys() == set(SERVICES) - {"gateway"}
    for name, route in routes.items():
        assert route["spec"]["serviceRef"] == {"name": f"shop-{name}", "port": "http"}
        assert route["spec"].get("routes", []) == ([{"pathsFrom": "OpenAPI"}] if facts[name]["public"] else [])
    assert not of_kind(rendered("lite"), "ServiceRoute")
    assert not of_kind(rendered("kind", "--set", "discovery.by=names"), "ServiceRoute")


def test_an_http_route_sends_everything_to_the_gateway_and_nowhere_else() -> None:
    manifests = rendered(
        "kind", "--set", "ingress.enabled=false,httpRoute.enabled=true,httpRoute.parentRefs[0].name=edge"
    )
    (route,) = of_kind(manifests, "HTTPRoute").values()
    assert route["spec"]["parentRefs"] == [{"name": "edge"}]
    assert route["spec"]["hostnames"] == ["shop.local"]
    (rule,) = route["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": "shop-gateway", "port": 8080}]
    assert not of_kind(manifests, "Ingress")


@pytest.mark.parametrize("way", ["ingress.enabled=true", "httpRoute.enabled=true,httpRoute.parentRefs[0].name=edge"])
@pytest.mark.parametrize("proxies", ["", " ", "0.0.0.0/0", "10.0.0.0/8\\,::/0"])
@pytest.mark.parametrize(
    "values",
    [(), ("--values", "charts/caravan/values-lite.yaml"), ("--values", "charts/caravan/values-production.yaml")],
)
def test_what_is_reached_through_a_proxy_knows_which_or_is_not_made(
    way: str, proxies: str, values: tuple[str, ...]
) -> None:
    rendered("kind")
    options = ("--set", way, "--set-string", f"settings.GATEWAY_TRUSTED_PROXIES={proxies}")
    done = helm("template", "shop", "charts/caravan", "--kube-version", KUBERNETES, *values, *options)
    assert done.returncode != 0
    assert "settings.GATEWAY_TRUSTED_PROXIES: " in done.stderr


@pytest.mark.parametrize("release", ["kind", "lite", "production", "defaults"])
def test_a_gateway_behind_an_ingress_believes_its_proxies_alone(release: str) -> None:
    manifests = rendered(release)
    named = of_kind(manifests, "ConfigMap")["shop-settings"]["data"].get("GATEWAY_TRUSTED_PROXIES")
    assert bool(named) == bool(of_kind(manifests, "Ingress"))
    assert not parse_networks(named or "") or all(network.prefixlen > 0 for network in parse_networks(named or ""))
    given = rendered(
        "defaults", "--set", "ingress.enabled=true,services.gateway.env.GATEWAY_TRUSTED_PROXIES=10.1.0.0/16"
    )
    assert of_kind(given, "Ingress")
