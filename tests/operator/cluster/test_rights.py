"""The generated rights are enough, and no more: the operator runs as a service account that has only them."""

from pathlib import Path
from typing import Any

import yaml
from caravan_operator.backends.kubernetes import ApiError, load_credentials
from caravan_operator.resources import rbac

from tests.operator.cluster.apiserver import Namespace, OperatorProcess

RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces"


async def test_the_operator_works_with_the_generated_rights_alone(connected: Namespace, tmp_path: Path) -> None:
    kubeconfig = await _create_account(connected, tmp_path)
    running = OperatorProcess(connected.name, "--sweep", "2", kubeconfig=kubeconfig)
    await running.start()
    try:
        spec = {"connectionRef": {"name": "kafka"}, "partitions": 1, "deletionPolicy": "Delete"}
        await connected.create_object("KafkaTopic", f"{connected.name}-rights", spec)
        await connected.create_object(
            "RabbitMQQueue",
            f"{connected.name}-rights",
            {"connectionRef": {"name": "rabbit"}, "deletionPolicy": "Delete"},
        )
        for kind in ("KafkaTopic", "RabbitMQQueue"):
            await connected.wait_until_ready(kind, f"{connected.name}-rights", seconds=40)
            await connected.delete_object(kind, f"{connected.name}-rights")
            await connected.wait_until_gone(kind, f"{connected.name}-rights", seconds=40)
        assert "Deleted" in {reason for reason, _ in await connected.list_events(f"{connected.name}-rights")}
    finally:
        log = running.read_log()
        await running.stop()
    assert "forbidden" not in log.lower()


async def test_the_account_may_not_do_more(connected: Namespace, tmp_path: Path) -> None:
    await _create_account(connected, tmp_path)
    refused = [
        ("", "secrets", "list"),
        ("", "secrets", "update"),
        ("", "pods", "get"),
        ("messaging.caravan.dev", "kafkatopics", "create"),
        ("messaging.caravan.dev", "kafkatopics", "delete"),
        ("apiextensions.k8s.io", "customresourcedefinitions", "get"),
        ("coordination.k8s.io", "leases", "delete"),
    ]
    for group, resource, verb in refused:
        assert not await _is_allowed(connected, group, resource, verb), f"{verb} {resource}"
    assert await _is_allowed(connected, "messaging.caravan.dev", "kafkatopics", "patch")


async def _is_allowed(namespace: Namespace, group: str, resource: str, verb: str) -> bool:
    attributes = {"namespace": namespace.name, "group": group, "resource": resource, "verb": verb}
    user = f"system:serviceaccount:{namespace.name}:operator"
    groups = ["system:serviceaccounts", "system:authenticated"]
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
    body = review | {"spec": {"user": user, "groups": groups, "resourceAttributes": attributes}}
    answer = await namespace.kubernetes.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
    return bool(answer["status"]["allowed"])


async def _create_account(namespace: Namespace, folder: Path) -> str:
    """A service account with the generated rules; returns a kubeconfig with its token."""
    rules = [rule for part in ("watched", "secrets", "ownNamespace") for rule in rbac.build_document()[part]]
    subject = {"kind": "ServiceAccount", "name": "operator", "namespace": namespace.name}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"}
    await _create_object(namespace, f"/api/v1/namespaces/{namespace.name}/serviceaccounts", {})
    await _create_object(namespace, f"{RBAC}/{namespace.name}/roles", {"rules": rules})
    await _create_object(namespace, f"{RBAC}/{namespace.name}/rolebindings", {"subjects": [subject], "roleRef": role})
    path = f"/api/v1/namespaces/{namespace.name}/serviceaccounts/operator/token"
    token = (await namespace.kubernetes.request("POST", path, {"spec": {"expirationSeconds": 3600}}))["status"]["token"]
    login = await load_credentials()
    config = {
        "current-context": "account",
        "contexts": [{"name": "account", "context": {"cluster": "here", "user": "account"}}],
        "clusters": [
            {"name": "here", "cluster": {"server": login.server, "certificate-authority": str(login.ca_path)}}
        ],
        "users": [{"name": "account", "user": {"token": token}}],
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return str(file)


async def _create_object(namespace: Namespace, path: str, body: dict[str, Any]) -> None:
    try:
        await namespace.kubernetes.request("POST", path, {"metadata": {"name": "operator"}, **body})
    except ApiError as error:
        if error.status != 409:
            raise
