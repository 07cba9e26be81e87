"""What the adapter for django-oscar says without Oscar; tests/install/test_oscar.py tries it in one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from django.template.backends.django import DjangoTemplates
from django.utils.module_loading import import_string

import shop_similarity.contrib.oscar
from shop_similarity.conf import problems
from shop_similarity.contrib.oscar import oscar_settings

FOLDER = Path(shop_similarity.contrib.oscar.__file__).parent


def test_the_settings_are_valid_and_may_be_added_to():
    assert problems({**oscar_settings(), "MIN_SIMILARITY": 0.3, "IN_STOCK": None}) == []


def test_each_call_gives_a_dict_of_its_own():
    oscar_settings()["PRICE"] = "price"
    assert oscar_settings()["PRICE"] != "price"


def test_what_the_settings_name_is_there():
    for value in oscar_settings().values():
        if value.startswith("shop_similarity."):
            assert callable(import_string(value))


def test_settings_that_use_it_import_neither_oscar_nor_models():
    script = (
        "import sys; from shop_similarity.contrib.oscar import oscar_settings, products, thumbnails, dashboard; "
        "assert not [name for name in sys.modules if name.split('.')[0] == 'oscar']"
    )
    helper = (
        "import sys; from shop_similarity.contrib.oscar import oscar_settings; oscar_settings(); "
        "assert 'django.db' not in sys.modules"
    )
    django = "import django; django.setup(); "
    for source in (django + script, helper):
        subprocess.run([sys.executable, "-c", source], check=True, timeout=60, env=None)


def test_its_templates_can_be_compiled_but_for_what_is_oscars():
    """Names of templates and tags are looked up by Django when they are rendered; here the syntax is looked at."""
    engine = DjangoTemplates(
        {
            "NAME": "adapter",
            "DIRS": [FOLDER / "templates"],
            "APP_DIRS": False,
            "OPTIONS": {
                "libraries": {
                    "shop_similarity_oscar": "shop_similarity.contrib.oscar.templatetags.shop_similarity_oscar"
                }
            },
        }
    )
    names = [str(file.relative_to(FOLDER / "templates")) for file in (FOLDER / "templates").rglob("*.html")]
    assert len(names) > 10
    for name in names:
        engine.get_template(name)


def test_who_replaces_a_template_finds_its_line_in_the_docs(settings):
    text = (settings.BASE_DIR / "docs" / "oscar.md").read_text(encoding="utf-8")
    for file in (FOLDER / "templates" / "oscar").rglob("*.html"):
        assert str(file.relative_to(FOLDER / "templates")) in text
