"""A data folder and a small catalogue for each demo that a test starts."""

import csv
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from tests.support.demo_process import DemoProcess, end_all


@pytest.fixture
def data() -> Iterator[Path]:
    """A data folder that the servers' user may enter; nothing works in it after the test."""
    path = Path(tempfile.mkdtemp(prefix="shop-demo-"))
    path.chmod(0o711)
    yield path
    end_all(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def demo(data: Path, tmp_path: Path) -> Iterator[Callable[..., DemoProcess]]:
    """Starts demos on the data folder; those that still run after the test are killed."""
    started: list[DemoProcess] = []

    def start(*arguments: str, **more) -> DemoProcess:
        log = tmp_path / f"demo-{len(started)}.log"
        started.append(DemoProcess(*arguments, log=log, data=data, **more))
        return started[-1]

    yield start
    for process in started:
        if process.process.poll() is None:
            process.kill()


@pytest.fixture
def drawn_catalogue(tmp_path: Path) -> Path:
    """Twelve products in two categories, with drawn photos."""
    folder = tmp_path / "drawn"
    folder.mkdir()
    colours = ["crimson", "navy", "seagreen", "orange", "purple", "teal"]
    with (folder / "products.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sku", "name", "category", "price", "stock", "description", "images"])
        for shape in ("disc", "square"):
            for colour in colours:
                image = Image.new("RGB", (300, 300), "white")
                draw = ImageDraw.Draw(image)
                (draw.ellipse if shape == "disc" else draw.rectangle)((50, 50, 250, 250), fill=colour)
                name = f"{shape}-{colour}.jpg"
                image.save(folder / name)
                rows.writerow([name[:-4], f"{colour} {shape}", f"{shape}s", "9.90", "3", "", name])
    return folder
