"""The browser and the worker that tests share."""

import pytest


@pytest.mark.browser
def test_the_browser_shows_a_page_of_the_live_server(chromium, live_server, transactional_db):
    page = chromium.new_page()
    answer = page.goto(f"{live_server.url}/admin/login/")
    assert answer.status == 200
    assert page.get_by_label("Password").is_visible()
    page.close()
