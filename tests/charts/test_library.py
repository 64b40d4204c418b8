"""The library of charts knows nothing of its user: a chart of somebody else renders its service with it alone."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.charts.conftest import CHARTS

CHART = """
apiVersion: v2
name: bakery
version: 1.2.3
appVersion: "4.5"
"""
TEMPLATE = """
{{- $it := dict "root" $ "name" "oven"
    "image" (dict "repository" "bakery/oven" "tag" "" "digest" "" "pullPolicy" "Always")
    "imagePullSecrets" list "development" false "command" list "args" (list "bake" "--hot")
    "settings" (dict "configMap" "oven-settings" "checksum" "abc")
    "drainVariable" "OVEN_DRAIN" "environment" (dict "OVEN_HEAT" 230)
    "service" .Values.oven
    "secretSources" "" "volumes" "- {name: flour, emptyDir: {}}" "volumeMounts" "- {name: flour, mountPath: /flour}"
    "network" (dict "callers" (list "counter") "calls" list "ingressFrom" list "probesFrom" "" "egress" ""
        "dns" (list (dict "ports" (list (dict "port" 53)))))
    "scaling" (dict "topics" (list (dict "name" "orders" "group" "oven" "partitions" 3)) "queues" (list "bread")
        "kafkaUrl" "kafka:9092"
        "kafkaMetadata" (dict "tls" "enable")
        "kafkaSecrets" (list (dict "parameter" "ca" "name" "kafka" "key" "ca.crt"))
        "rabbitmqSecrets" (list (dict "parameter" "host" "name" "rabbit" "key" "url"))
        "rabbitmqSettings" list)
}}
{{- range $part := list "serviceAccount" "service" "deployment" "pdb" "claim" "networkPolicy" "hpa" "scaledObject"
    "triggerAuthentication" }}
---
{{ include (printf "service-lib.%s" $part) $it }}
{{- end }}
"""
VALUES = {
    "oven": {
        "replicas": 2,
        "resources": {"requests": {"cpu": "1"}},
        "autoscaling": {"enabled": False, "min": 1, "max": 4, "cpuPercent": 70},
        "keda": {"enabled": False, "min": 1, "max": 0, "lag": 10},
        "persistence": {"enabled": False, "size": "1Gi", "storageClass": ""},
        "preStopSeconds": 1,
        "drainSeconds": 2,
        "podAnnotations": {},
        "priorityClassName": "",
        "nodeSelector": {},
        "tolerations": [],
    }
}


def test_names_no_user_and_reads_no_values_of_it() -> None:
    for template in (CHARTS / "service-lib").rglob("*.*"):
        assert not re.search(r"caravan|\.Values\b", template.read_text(), re.IGNORECASE), template.name


def test_renders_the_service_of_a_foreign_chart(tmp_path: Path) -> None:
    if not shutil.which("helm"):
        pytest.skip("helm is not on the PATH")
    shutil.copytree(CHARTS / "service-lib", tmp_path / "charts/service-lib")
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text(CHART)
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(VALUES))
    (tmp_path / "templates/oven.yaml").write_text(TEMPLATE)
    done = subprocess.run(["helm", "template", "shop", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "caravan" not in done.stdout.lower()
    documents = [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]
    manifests = {manifest["kind"]: manifest for manifest in reversed(documents)}
    assert (len(documents), len(manifests)) == (10, 9)
    container = manifests["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "bakery/oven:4.5"
    assert container["args"] == ["bake", "--hot"]
    assert "command" not in container
    assert container["env"] == [{"name": "OVEN_DRAIN", "value": "2"}, {"name": "OVEN_HEAT", "value": "230"}]
    assert [mount["name"] for mount in container["volumeMounts"]] == ["tmp", "data", "flour"]
    assert manifests["ScaledObject"]["spec"]["maxReplicaCount"] == 3
    assert manifests["TriggerAuthentication"]["spec"]["secretTargetRef"] == [
        {"parameter": "host", "name": "rabbit", "key": "url"}
    ]
    assert documents[-1]["spec"]["secretTargetRef"] == [{"parameter": "ca", "name": "kafka", "key": "ca.crt"}]
    trigger = manifests["ScaledObject"]["spec"]["triggers"][0]
    assert trigger["metadata"]["tls"] == "enable"
    assert trigger["authenticationRef"] == {"name": documents[-1]["metadata"]["name"]}
    (rule,) = manifests["NetworkPolicy"]["spec"]["ingress"]
    assert rule["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "counter"
    assert manifests["NetworkPolicy"]["spec"]["egress"] == [{"ports": [{"port": 53}]}]
