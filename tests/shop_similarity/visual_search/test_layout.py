"""Nothing moves by itself on the page of the search by photo: not when results come, nor objects, nor a refusal."""

from __future__ import annotations

import pytest

from tests.shop_similarity.visual_search.test_page import (
    DESK,
    PHONE,
    _drop,
    _found,
    _photo,
    _two_products,
    expect,
    shop,  # noqa: F401
    visit,  # noqa: F401
)
from tests.workers.conftest import kept_networks, tiny_version, tiny_weights  # noqa: F401

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.django_db(transaction=True)]

# Chromium leaves out what comes within half a second of a click, a key or a choice of a file; a drop is none of them.
OBSERVE = """() => {
    window.shifts = [];
    const name = ({ node }) => node?.className ?? node?.textContent ?? "gone";
    new PerformanceObserver((list) => {
        for (const { value, hadRecentInput, sources } of list.getEntries())
            if (!hadRecentInput) window.shifts.push([value, sources.map(name)]);
    }).observe({ type: "layout-shift", buffered: true });
}"""


def _choose(page, content: bytes) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator("input[name=photo]").click()
    # As long as somebody looks for a file: the click is no excuse any more.
    page.wait_for_timeout(550)
    chooser.value.set_files({"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": content})


@pytest.mark.parametrize(
    ("how", "take"), [(DESK, _drop), pytest.param(PHONE, _choose, marks=pytest.mark.long)], ids=["desk", "phone"]
)
def test_nothing_moves(visit, shop, finds_objects, how, take):  # noqa: F811
    page = visit(**how)
    page.evaluate(OBSERVE)
    results = page.locator("[data-visual-search-results]")
    take(page, _two_products())
    _found(page)
    expect(page.locator("#visual-search-found")).to_be_focused()
    take(page, _photo(3, (200, 90)))
    expect(results).to_have_attribute("aria-busy", "true")
    expect(results).to_have_attribute("aria-busy", "false", timeout=20_000)
    take(page, _photo(3)[:900])
    expect(page.get_by_role("alert")).to_contain_text("cut off")
    page.wait_for_timeout(200)
    assert page.evaluate("window.shifts") == []


_CUT = """() => [...document.querySelectorAll(".visual-search button, .visual-search label, .visual-search p")]
    .filter(e => !e.matches(".visual-search__status--spoken"))
    .filter(e => e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1)
    .map(e => `${e.textContent.trim()}: ${e.scrollWidth}/${e.clientWidth}, ${e.scrollHeight}/${e.clientHeight}`)"""


@pytest.mark.parametrize("language", ["de", "fr"])
def test_words_of_other_languages_fit(visit, shop, finds_objects, language):  # noqa: F811
    page = visit(**PHONE, locale=language)
    _drop(page, _two_products())
    _found(page)
    expect(page.locator(".visual-search__object")).to_have_count(3)
    for width in (390, 320):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate(_CUT) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
