"""The rooms at the top of the repository have one name each, that of the plugin's package."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest
from django.conf import settings

# Modules with two names were read from one file; a worker in the clone's own folder is where it could happen.
DOUBLES = """
import os, sys
from collections import defaultdict

def show_doubles():
    names = defaultdict(set)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and name not in ("__main__", "__mp_main__"):
            names[os.path.realpath(file)].add(name)
    ours = {file: names[file] for file in names if file.startswith(os.getcwd()) and "site-packages" not in file}
    assert any("/workers/" in file for file in ours), "Nothing was looked at."
    doubles = sorted(sorted(found) for found in ours.values() if len(found) > 1)
    # Celery takes sys.stdout for its log.
    print("doubles:", doubles, file=sys.__stdout__, flush=True)
"""
WORKER = """
from celery.signals import worker_ready
from celery.exceptions import WorkerShutdown

@worker_ready.connect
def end(**kwargs):
    show_doubles()
    raise WorkerShutdown(0)

from celery.__main__ import main
sys.argv = ["celery", "-A", "shop_similarity.workers", "worker"]
main()
"""
COMMAND = """
from django.core.management import get_commands, load_command_class
import django
django.setup()
for name, app in get_commands().items():
    if app.startswith("shop_similarity"):
        load_command_class(app, name)
import shop_similarity.workers.celery, shop_similarity.training.learning.run, shop_similarity.training.report.run_report
show_doubles()
"""


@pytest.mark.parametrize("name", ["training", "workers"])
def test_a_bare_name_cannot_be_imported(name, monkeypatch):
    monkeypatch.syspath_prepend(settings.BASE_DIR)
    with pytest.raises(ImportError, match=rf"imported as shop_similarity\.{name}, and under no other name"):
        importlib.import_module(name)


@pytest.mark.parametrize("line", ["import training.files", "from workers import drain", "import workers"])
def test_ruff_forbids_bare_names(line):
    ruff = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--stdin-filename", "catalog/views.py", "-"],
        cwd=settings.BASE_DIR,
        input=f"{line}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ruff.returncode == 1
    assert "TID251" in ruff.stdout
    assert "under a second name every module would be loaded twice" in ruff.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "code", [pytest.param(WORKER, id="worker"), pytest.param(COMMAND, id="commands", marks=pytest.mark.long)]
)
def test_no_module_is_loaded_under_two_names(code, servers):
    ended = subprocess.run(
        [sys.executable, "-c", DOUBLES + code],
        cwd=settings.BASE_DIR,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": servers.database_url,
            "REDIS_URL": servers.broker_url,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "doubles: []" in ended.stdout, ended.stdout + ended.stderr
