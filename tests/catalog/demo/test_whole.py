"""The demo as a whole: real servers, real weights, a real worker, a page fetched over HTTP."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from catalog.services.postgres import Postgres
from catalog.services.valkey import Valkey
from tests.support.demo_process import PROJECT, DemoProcess, end_all, left_behind

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

KEYS = {"products", "images", "embedded", "failed", "seconds", "weights", "similar"}
PRODUCTS = 12


def report(process: DemoProcess, timeout: float = 300) -> dict:
    """The demo's last line, once it has ended."""
    status = process.wait(timeout)
    assert status == 0, process.output
    return json.loads(process.output.rstrip().splitlines()[-1])


def embeddings(postgres: Postgres) -> list[tuple]:
    """The embeddings and the transactions that wrote them."""
    postgres.start()
    try:
        with postgres.connect() as connection:
            return connection.execute(
                "SELECT image_id, xmin::text FROM shop_similarity_embedding ORDER BY image_id"
            ).fetchall()
    finally:
        postgres.stop()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict]]:
    """The project, copied to another folder, after a first `demo --check` there; and what that reported."""
    folder = Path(tmp_path_factory.mktemp("template"))
    # The servers' user has to come through pytest's own folders, too; where that cannot be, their data goes elsewhere.
    project = folder / "project"
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, files.decode().split("\0")):
        if (PROJECT / name).is_symlink() or (PROJECT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, project / name, follow_symlinks=False)
    data = project / ".data"
    try:
        process = DemoProcess("--check", "--folder", str(draw_catalogue(folder)), log=folder / "log", project=project)
        yield project, report(process) | {"output": process.output}
    finally:
        end_all(data)
        Postgres(data / "postgres").delete()
        Valkey(data / "valkey").delete()


def draw_catalogue(folder: Path, first: int = 0) -> Path:
    """Products of one photo each: patterns that differ in period, direction and colour."""
    folder = folder / f"drawn-{first}"
    folder.mkdir(exist_ok=True)
    lines = ["sku,name,category,price,stock,images"]
    for number in range(first, first + PRODUCTS):
        image = Image.new("RGB", (256, 256))
        period, colour = 8 + 4 * (number % 6), (40 * number % 256, 90 * number % 256, 150)
        image.putdata(
            [
                colour if ((x if number % 2 else y) // period) % 2 else (250, 250, 250)
                for y in range(256)
                for x in range(256)
            ]
        )
        image.save(folder / f"{number}.png")
        lines.append(f"P{number},Pattern {number},Patterns,5.00,1,{number}.png")
    (folder / "products.csv").write_text("\n".join(lines) + "\n")
    return folder


def start(project: Path, tmp_path: Path, *arguments: str, **more) -> DemoProcess:
    return DemoProcess(*arguments, log=tmp_path / "demo.log", project=project, **more)


@pytest.mark.long
def test_the_check_reports_all_that_it_did(template):
    project, first = template
    assert set(first) >= KEYS
    assert (first["products"], first["images"], first["embedded"], first["failed"]) == (PRODUCTS, PRODUCTS, PRODUCTS, 0)
    assert set(first["seconds"]) == {
        "servers", "migrate", "catalogue", "web", "model", "worker", "embed", "page", "total",
    }  # fmt: skip
    assert first["weights"]["source"]
    assert first["similar"]["product"].startswith("Pattern")
    assert len(first["similar"]["look_alikes"]) == 8
    assert all(-1 <= other["similarity"] <= 1 for other in first["similar"]["look_alikes"])
    assert first["similar"]["product"] not in [other["name"] for other in first["similar"]["look_alikes"]]
    assert '"GET ' not in first["output"], "requests are logged in a file"
    for name in ("log", "media", "weights", "admin_password", "secret_key"):
        assert (project / ".data" / name).stat().st_mode & 0o077 == 0, f"{name} is open to other users"
    assert (project / ".data" / "admin_password").read_text().strip() not in first["output"]
    assert left_behind(project / ".data") == []


@pytest.mark.long
def test_the_second_start_embeds_nothing_again(template, tmp_path):
    project, first = template
    before = embeddings(Postgres(project / ".data" / "postgres"))
    second = report(start(project, tmp_path, "--check"))
    assert embeddings(Postgres(project / ".data" / "postgres")) == before
    assert len(before) == PRODUCTS
    assert second["embedded"] == PRODUCTS
    assert second["similar"] == first["similar"]
    assert second["seconds"]["model"] < first["seconds"]["model"] / 4
    assert second["seconds"]["total"] < first["seconds"]["total"]
    assert left_behind(project / ".data") == []


@pytest.mark.long
def test_ctrl_c_ends_a_shop_that_is_being_served(template, tmp_path):
    project, _first = template
    process = start(project, tmp_path, "--port", "0")
    process.wait_for("The shop is ready")
    process.signal_group(signal.SIGINT)
    assert process.wait() == 0, "that is how it is meant to end"
    assert "Traceback" not in process.output
    assert left_behind(project / ".data") == []


def embed_more(project: Path, tmp_path: Path, first: int) -> DemoProcess:
    """A demo whose worker has just begun with photos that are new."""
    worker_log = project / ".data" / "log" / "worker.log"
    loads = worker_log.read_text().count(" Loaded ")
    process = start(project, tmp_path, "--port", "0", "--folder", str(draw_catalogue(tmp_path, first)))
    process.wait_for("• Embedding")
    deadline = time.monotonic() + 120
    while worker_log.read_text().count(" Loaded ") == loads:
        assert time.monotonic() < deadline, process.output
        time.sleep(0.02)
    return process


@pytest.mark.long
def test_ctrl_c_while_the_worker_computes(template, tmp_path):
    project, _first = template
    process = embed_more(project, tmp_path, PRODUCTS)
    process.signal_group(signal.SIGINT)
    assert process.wait() == 128 + signal.SIGINT
    assert "Traceback" not in process.output
    assert left_behind(project / ".data") == []


@pytest.mark.long
def test_a_demo_killed_while_embedding_goes_on_where_it_was(template, tmp_path):
    project, _first = template
    process = embed_more(project, tmp_path, 2 * PRODUCTS)
    process.kill()
    assert any("celery" in line for line in left_behind(project / ".data")), "its worker goes on alone"
    again = report(start(project, tmp_path, "--check"))
    assert again["embedded"] == again["images"] >= 2 * PRODUCTS
    stored = embeddings(Postgres(project / ".data" / "postgres"))
    assert len({image for image, _xmin in stored}) == len(stored) == again["images"]
    assert left_behind(project / ".data") == []


@pytest.mark.long
def test_servers_of_the_users_own(template, servers, tmp_path):
    from psycopg import connect, sql

    project, _first = template
    name = f"shop_of_user_{os.getpid()}"
    with connect(servers.database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    data = tmp_path / "data"
    (data / "weights").mkdir(parents=True)
    try:
        process = start(
            project,
            tmp_path,
            "--port",
            "0",
            "--folder",
            str(draw_catalogue(tmp_path)),
            data=data,
            env={"DATABASE_URL": servers.url_of(name), "REDIS_URL": servers.broker_url},
        )
        process.wait_for("• Model")
        assert "your Postgres: postgresql://…@" in process.output
        assert "your broker: redis://…@" in process.output
        process.signal_group(signal.SIGINT)
        process.wait()
        assert not (data / "postgres").exists()
        assert not (data / "valkey").exists()
        assert servers.postgres is None or servers.postgres.is_running(), "the user's servers are left alone"
        assert left_behind(data) == []
    finally:
        with connect(servers.database_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_a_wrong_address_is_explained(tmp_path):
    process = start(PROJECT, tmp_path, data=tmp_path, env={"DATABASE_URL": "postgresql://user:secret@127.0.0.1:9/shop"})
    assert process.wait() == 1
    assert "DATABASE_URL (postgresql://…@127.0.0.1:9/shop) cannot be used" in process.output
    assert "secret" not in process.output
    assert "Traceback" not in process.output
