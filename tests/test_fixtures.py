"""The browser and the worker that tests share."""

import psutil
import pytest

from catalog.services.processes import wait_gone


@pytest.mark.browser
def test_the_browser_shows_a_page_of_the_live_server(chromium, live_server, transactional_db):
    page = chromium.new_page()
    answer = page.goto(f"{live_server.url}/admin/login/")
    assert answer.status == 200
    assert page.get_by_label("Password").is_visible()
    page.close()


@pytest.mark.long
@pytest.mark.slow
def test_a_killed_worker_leaves_no_process(celery_worker_process):
    worker = celery_worker_process()
    family = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
    assert "ready." in worker.log
    worker.kill()
    assert wait_gone(family, 10) == []
    second = celery_worker_process(env={"SHOP_DEBUG": "0"})
    assert second.stop() == 0, "a warm shutdown"
