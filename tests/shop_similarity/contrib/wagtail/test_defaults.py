"""The settings of a Wagtail shop, which are made where neither Wagtail nor any model can be imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from shop_similarity.conf import problems
from shop_similarity.contrib.wagtail import wagtail_settings


@pytest.mark.parametrize("pages", [True, False])
def test_the_settings_are_settings_of_the_plugin(pages):
    found = wagtail_settings("shop.Product", "photo.file", pages=pages)
    assert problems(found) == []
    assert (found["PRODUCT_MODEL"], found["IMAGES"]) == ("shop.Product", "photo.file")
    assert ("CATEGORY" in found, "VARIANT_GROUP" in found) == (pages, pages)


def test_a_settings_file_can_import_them():
    code = (
        "import sys; sys.modules['wagtail'] = None; from shop_similarity.contrib.wagtail import wagtail_settings; "
        "assert 'django.db' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
