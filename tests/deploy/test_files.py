"""What deploy/ holds for containers, Kubernetes, systemd, Prometheus and Grafana, checked without an engine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from django.conf import settings
from django.db import connection

from shop_similarity import meters
from shop_similarity.conf import Settings
from shop_similarity.models import OutboxEntry
from shop_similarity.monitoring import exposition
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version
from tests.support.plans import scans

ROOT = Path(settings.BASE_DIR)
DEPLOY = ROOT / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
OF_THE_CLIENT = {"process_resident_memory_bytes"}


class _NoDuplicates(yaml.SafeLoader):
    """YAML takes the last of two keys, silently."""


def _mapping(loader, node, deep=False):
    keys = [loader.construct_object(key, deep=True) for key, _value in node.value if key.value != "<<"]
    assert len(keys) == len(set(keys)), f"{node.start_mark}: {keys}"
    loader.flatten_mapping(node)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=deep)


_NoDuplicates.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def documents(path: Path) -> list[dict]:
    return [document for document in yaml.load_all(path.read_text(), _NoDuplicates) if document]


MANIFESTS = [
    pytest.param(path.name, document, id=f"{path.stem}-{document['kind']}-{document['metadata']['name']}")
    for path in KUBERNETES
    for document in documents(path)
]


@pytest.mark.parametrize(("file", "document"), MANIFESTS)
def test_a_manifest_keeps_to_the_schema_of_kubernetes(file, document):
    if document["apiVersion"].startswith("keda.sh/"):
        pytest.skip("a definition of KEDA's own, looked at below")
    schemas = pytest.importorskip("kubernetes_validate")
    schemas.validate(document, "1.31", strict=True)


def test_a_web_pod_is_ready_only_when_its_database_answers(settings, client, db):
    settings.SECURE_SSL_REDIRECT, settings.SECURE_PROXY_SSL_HEADER = True, ("HTTP_X_FORWARDED_PROTO", "https")
    settings.ALLOWED_HOSTS = ["web"]
    (web,) = (each for each in documents(DEPLOY / "kubernetes/web.yaml") if each["kind"] == "Deployment")
    probe = web["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"]
    headers = {header["name"]: header["value"] for header in probe["httpHeaders"]}
    assert client.get(probe["path"], headers=headers).status_code == 200


PODS = [param for param in MANIFESTS if param.values[1]["kind"] in ("Deployment", "Job")]


@pytest.mark.parametrize(("file", "document"), PODS)
def test_a_pod_has_no_more_rights_than_it_needs_and_ends_in_its_time(file, document):
    pod = document["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    (container,) = pod["containers"]
    rights = container["securityContext"]
    assert rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"]
    assert rights["capabilities"]["drop"] == ["ALL"]
    assert container["resources"]["limits"]["memory"]
    assert container["args"][0] in roles()
    release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert container["image"].split(":")[1].removesuffix("-gpu") == release
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    if document["kind"] == "Deployment":
        assert document["spec"]["selector"]["matchLabels"] == document["spec"]["template"]["metadata"]["labels"]
        assert pod["terminationGracePeriodSeconds"] > Settings.shutdown_seconds


def keda() -> list[dict]:
    return documents(DEPLOY / "kubernetes" / "keda.yaml")


def test_keda_scales_deployments_that_exist_by_a_secret_that_exists():
    deployments = {param.values[1]["metadata"]["name"] for param in PODS if param.values[1]["kind"] == "Deployment"}
    authentication, *scaled = keda()
    assert authentication["spec"]["secretTargetRef"] == [
        {"parameter": "connection", "name": "shop", "key": "DATABASE_URL"}
    ]
    (secret,) = [param.values[1] for param in MANIFESTS if param.values[1]["kind"] == "Secret"]
    assert "DATABASE_URL" in secret["stringData"] and not any(secret["stringData"].values()), "nobody's password"
    assert {one["spec"]["scaleTargetRef"]["name"] for one in scaled} == deployments - {"web"}
    for one in scaled:
        (trigger,) = one["spec"]["triggers"]
        assert trigger["type"] == "postgresql"
        assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
        # KEDA takes texts alone.
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
        assert trigger["metadata"].keys() <= {"query", "targetQueryValue", "activationTargetQueryValue"}


@pytest.mark.usefixtures("vacuumed")
@pytest.mark.parametrize("number", [1, 2])
def test_the_query_of_keda_counts_what_waits_and_reads_no_more_than_it_counts(number):
    query = keda()[number]["spec"]["triggers"][0]["metadata"]["query"]
    version = make_version()
    photos = make_photos_without_files([make_product()], 3_000)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO {OutboxEntry._meta.db_table} (version_id, product_id, image_id, priority, created_at,
                attempts, claimed_by, last_error, file_name, file_mark, failed_at, due_at, leased_until)
            SELECT %s, product_id, id, 0, now(), 0, '', '', '', '',
                CASE WHEN id %% 10 < 7 THEN now() END, CASE id %% 10 WHEN 7 THEN now() END,
                CASE id %% 10 WHEN 8 THEN now() END
            FROM {photos[0]._meta.db_table}""",
            [version.pk],
        )
        cursor.execute("ANALYZE")
    with scans() as found, connection.cursor() as cursor:
        cursor.execute(query)
        (counted,) = cursor.fetchone()
    assert counted == (600 if number == 1 else 300)
    assert sum(scan.rows for scan in found) == counted
    with scans() as found, connection.cursor() as cursor:
        cursor.execute(query.replace("LIMIT 10000", "LIMIT 20"))
        assert cursor.fetchone() == (40 if number == 1 else 20,)
    assert max(scan.rows for scan in found) <= 20


def test_manifests_start_the_image_of_this_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {param.values[1]["spec"]["template"]["spec"]["containers"][0]["image"] for param in PODS}
    assert {image.rpartition(":")[2].removesuffix("-gpu") for image in images} == {version}


@pytest.mark.parametrize("file", ["entrypoint.sh", "systemd/shop-web.service"])
def test_no_server_writes_its_control_socket_beside_the_photos(file):
    # Gunicorn's lies in the home folder: here a volume that all replicas share, or one that nobody may write to.
    assert "--no-control-socket" in (DEPLOY / file).read_text()


def compose() -> dict:
    (document,) = documents(DEPLOY / "compose.yaml")
    return document


def roles() -> set[str]:
    return set(re.findall(r"^([a-z-]+)\)$", (DEPLOY / "entrypoint.sh").read_text(), re.MULTILINE))


def test_compose_names_roles_services_and_volumes_that_exist():
    document = compose()
    services = document["services"]
    assert roles() == {"web", "worker", "worker-gpu", "migrate", "health", "manage"}
    assert {name for name, one in services.items() if one.get("command", [""])[0] in roles()} == {
        "migrate",
        "web",
        "worker",
        "worker-gpu",
    }
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= services.keys(), name
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= document["volumes"].keys(), name
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in services[needed]
    for name in ("worker", "worker-gpu"):
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > Settings.shutdown_seconds
    # No password has a default.
    assert "${POSTGRES_PASSWORD:?" in (DEPLOY / "compose.yaml").read_text()


def test_the_container_file_copies_what_is_there_and_what_the_context_holds():
    lines = (DEPLOY / "Dockerfile").read_text()
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    copied = [
        source
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", lines, re.MULTILINE)
        for source in sources.split()
    ]
    assert len(copied) >= 10
    for source in copied:
        assert (ROOT / source).exists(), source
        assert source in kept, source
    extras = re.search(r"^ARG EXTRAS=(\S+)$", lines, re.MULTILINE)[1].split(",")
    metadata = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", metadata, re.MULTILINE) for extra in extras)
    assert re.search(r"^USER \d+:\d+$", lines, re.MULTILINE)


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("hadolint", ["--failure-threshold", "info", "deploy/Dockerfile"]),
        ("shellcheck", ["deploy/entrypoint.sh"]),
        ("sh", ["-n", "deploy/entrypoint.sh"]),
    ],
)
def test_linters_find_nothing(program, arguments):
    path = shutil.which(program, path=f"{Path(shutil.which('python') or '').parent}:{_own_bin()}:/usr/bin:/bin")
    if path is None:
        pytest.skip(f"{program} is not installed")
    ended = subprocess.run([path, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def _own_bin() -> str:
    import sys

    return str(Path(sys.executable).parent)


def test_systemd_finds_nothing_to_say(tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    for unit in UNITS:
        text = unit.read_text()
        # It looks for the programs, which lie elsewhere here.
        text = re.sub(r"/srv/shop/venv/bin/\w+", "/bin/true", text).replace("EnvironmentFile=", "EnvironmentFile=-")
        (tmp_path / unit.name).write_text(text)
    ended = subprocess.run(
        [program, "verify", "--man=no", "--recursive-errors=no", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    ours = [line for line in ended.stderr.splitlines() if "/shop-" in line or "shop-similarity-worker" in line]
    assert ours == []


def test_units_wait_longer_than_a_worker_takes_to_end():
    worker = (DEPLOY / "systemd" / "shop-similarity-worker.service").read_text()
    assert int(re.search(r"^TimeoutStopSec=(\d+)$", worker, re.MULTILINE)[1]) > Settings.shutdown_seconds
    assert "KillMode=mixed" in worker


# As the text format writes them: a counter's samples end with _total, a histogram's with more.
SUFFIXES = ("", "_bucket", "_count", "_sum", "_total")


@pytest.fixture
def exported(settings) -> set[str]:
    pytest.importorskip("prometheus_client")
    from django.utils import timezone

    from shop_similarity.models import Heartbeat, RecallSample

    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "METRICS": True}
    version = make_version()
    now = timezone.now()
    Heartbeat.objects.create(worker="here|1|", started_at=now, seen_at=now)
    RecallSample.objects.create(
        version=version, measured_at=now, recall=1, filtered_recall=1, k=10, products=5, path="codes"
    )
    return {f"{family.name}{suffix}" for family in exposition.registry().collect() for suffix in SUFFIXES}


def expressions() -> list[str]:
    board = json.loads((DEPLOY / "grafana" / "shop-similarity.json").read_text())
    (rules,) = documents(DEPLOY / "prometheus" / "alerts.yaml")
    return [
        *(target["expr"] for panel in board["panels"] for target in panel["targets"]),
        *(rule["expr"] for group in rules["groups"] for rule in group["rules"]),
    ]


@pytest.mark.django_db
def test_every_metric_that_the_board_and_the_alerts_ask_for_is_exported(exported):
    asked = {name for one in expressions() for name in re.findall(r"\b(?:shop_similarity|process)_\w+", one)}
    assert len(asked) >= 15
    assert asked - OF_THE_CLIENT - exported == set()
    told = {name for name in exported if name.startswith(meters.PREFIX) and not name.endswith(SUFFIXES[1:])}
    families = {name for name in told if any(f"{name}{suffix}" in asked for suffix in SUFFIXES)}
    assert told - families <= {"shop_similarity_version_active", "shop_similarity_index_ready"}, "nobody looks at these"


def test_the_expressions_are_promql():
    parser = pytest.importorskip("promql_parser")
    for expression in expressions():
        parser.parse(expression.replace("$__rate_interval", "5m"))


def test_each_alert_has_a_test_that_raises_it():
    (rules,) = documents(DEPLOY / "prometheus" / "alerts.yaml")
    (tests,) = documents(DEPLOY / "prometheus" / "alerts.test.yaml")
    raised = {
        case["alertname"]
        for test in tests["tests"]
        for case in test.get("alert_rule_test", [])
        if case.get("exp_alerts")
    }
    assert raised == {rule["alert"] for group in rules["groups"] for rule in group["rules"]}


def test_alerts_are_raised_by_what_they_are_for_and_by_nothing_else():
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed")
    ended = subprocess.run(
        [program, "test", "rules", "alerts.test.yaml"],
        cwd=DEPLOY / "prometheus",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_board_has_a_place_for_each_panel():
    board = json.loads((DEPLOY / "grafana" / "shop-similarity.json").read_text())
    places = [panel["gridPos"] for panel in board["panels"]]
    cells = [
        (column, row)
        for place in places
        for column in range(place["x"], place["x"] + place["w"])
        for row in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)) and max(column for column, _row in cells) < 24
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_each_alert_has_a_section_in_the_runbook():
    (rules,) = documents(DEPLOY / "prometheus" / "alerts.yaml")
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in (ROOT / "docs" / "runbook.md").read_text().splitlines()
        if line.startswith("#")
    }
    for group in rules["groups"]:
        for rule in group["rules"]:
            page, _hash, section = rule["annotations"]["runbook"].partition("#")
            assert page == "docs/runbook.md" and section in headings, rule["alert"]
