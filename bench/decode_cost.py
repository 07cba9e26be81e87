"""What the decoding of a large photo costs: seconds of the processor, and megabytes above the process before it.

    python -m bench.decode_cost [--megapixels 50] [--target 224] [--only webp]

Each photo is decoded in processes of its own: by Pillow's ``load`` alone, less than which nobody who decodes with
Pillow can take; by Pillow as pages about it do (``exif_transpose``, ``alpha_composite``, ``convert``; the peer); by
``open_image`` at full size; and by ``open_image`` with a target size.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from PIL import Image, ImageOps

from tests.shop_similarity.photos.photo_files import WIDE_RGB, encoded, press_profile, to_lab

Image.MAX_IMAGE_PIXELS = 10**9
TURNED = Image.Exif()
TURNED[0x0112] = 6


def drawn(side: int, mode: str = "RGB") -> Image.Image:
    """A smooth picture, whose file is short."""
    ramp = Image.linear_gradient("L").resize((side, side))
    match mode:
        case "L" | "P" | "1" | "F" | "I":
            return ramp.convert(mode)
        case "I;16":
            return ramp.convert("I").point(lambda value: value * 257).convert("I;16")
        case "LA" | "PA":
            return Image.merge("LA", (ramp, ramp)).convert(mode)
    colour = Image.merge("RGB", (ramp, ramp.transpose(Image.Transpose.ROTATE_90), ramp))
    if mode == "RGBA":
        colour.putalpha(ramp)
    return to_lab(colour) if mode == "LAB" else colour.convert(mode)


def flat_webp(side: int) -> bytes:
    """Lossless WebP of one colour: some forty bytes, whatever its size."""
    data = bytearray(encoded(Image.new("RGB", (16, 16), (1, 2, 3)), "WEBP", lossless=True))
    start = data.index(b"VP8L") + 9
    bits = int.from_bytes(data[start : start + 4], "little")
    data[start : start + 4] = ((bits >> 28 << 28) | (side - 1) << 14 | (side - 1)).to_bytes(4, "little")
    return bytes(data)


def tiff(side: int, mode: str, **options) -> bytes:
    return encoded(drawn(side, mode), "TIFF", compression="tiff_adobe_deflate", **options)


PHOTOS: dict[str, Callable[[int], bytes]] = {
    "jpeg RGB": lambda side: encoded(drawn(side), "JPEG"),
    "jpeg RGB turned": lambda side: encoded(drawn(side), "JPEG", exif=TURNED),
    "jpeg RGB progressive": lambda side: encoded(drawn(side), "JPEG", progressive=True, subsampling=0),
    "jpeg RGB profile": lambda side: encoded(drawn(side), "JPEG", icc_profile=WIDE_RGB),
    "jpeg L": lambda side: encoded(drawn(side, "L"), "JPEG"),
    "jpeg CMYK": lambda side: encoded(drawn(side, "CMYK"), "JPEG"),
    "jpeg CMYK profile": lambda side: encoded(drawn(side, "CMYK"), "JPEG", icc_profile=press_profile()),
    "png RGB": lambda side: encoded(drawn(side), "PNG", compress_level=1),
    "png RGB turned": lambda side: encoded(drawn(side), "PNG", compress_level=1, exif=TURNED),
    "png RGB key": lambda side: encoded(drawn(side), "PNG", compress_level=1, transparency=(9, 9, 9)),
    "png RGBA": lambda side: encoded(drawn(side, "RGBA"), "PNG", compress_level=1),
    "png RGBA turned": lambda side: encoded(drawn(side, "RGBA"), "PNG", compress_level=1, exif=TURNED),
    "png LA": lambda side: encoded(drawn(side, "LA"), "PNG", compress_level=1),
    "png L": lambda side: encoded(drawn(side, "L"), "PNG", compress_level=1),
    "png P": lambda side: encoded(drawn(side, "P"), "PNG", compress_level=1),
    "png P transparent": lambda side: encoded(
        drawn(side, "P"), "PNG", compress_level=1, transparency=bytes(range(256))
    ),
    "png P profile": lambda side: encoded(drawn(side, "P"), "PNG", compress_level=1, icc_profile=WIDE_RGB),
    "png 1": lambda side: encoded(drawn(side, "1"), "PNG", compress_level=1),
    "png I;16": lambda side: encoded(drawn(side, "I;16"), "PNG", compress_level=1),
    "webp RGB": lambda side: encoded(drawn(side), "WEBP", method=0),
    "webp RGBA": lambda side: encoded(drawn(side, "RGBA"), "WEBP", method=0),
    "webp flat": flat_webp,
    "gif P": lambda side: encoded(drawn(side, "P"), "GIF"),
    "gif P transparent": lambda side: encoded(drawn(side, "P"), "GIF", transparency=3),
    "avif RGB": lambda side: encoded(drawn(side), "AVIF", speed=10),
    "avif RGBA": lambda side: encoded(drawn(side, "RGBA"), "AVIF", speed=10),
    "bmp RGB": lambda side: encoded(drawn(side), "BMP"),
    "bmp P": lambda side: encoded(drawn(side, "P"), "BMP"),
    "tiff RGB": lambda side: tiff(side, "RGB"),
    "tiff RGBA": lambda side: tiff(side, "RGBA"),
    "tiff RGB one strip": lambda side: tiff(side, "RGB", strip_size=2**30),
    "tiff CMYK profile": lambda side: tiff(side, "CMYK", icc_profile=press_profile()),
    "tiff I;16": lambda side: tiff(side, "I;16"),
    "tiff I": lambda side: tiff(side, "I"),
    "tiff F": lambda side: tiff(side, "F"),
    "tiff LAB": lambda side: tiff(side, "LAB"),
    "tiff YCbCr": lambda side: tiff(side, "YCbCr"),
}


def plain(data: bytes) -> Image.Image:
    """The peer."""
    with Image.open(io.BytesIO(data)) as image:
        turned = ImageOps.exif_transpose(image)
        if turned.has_transparency_data:
            turned = turned.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned).convert("RGB")
        return turned.convert("RGB")


def load(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def measure(path: Path, way: str, target: int) -> dict[str, float | str]:
    """In a child: seconds, and megabytes above what the process held before."""
    from shop_similarity.photos.decoding import ImageError, ImageLimits, open_image

    data = path.read_bytes()
    # With what is prepared once.
    open_image(encoded(drawn(64), "PNG"))
    decode = {
        "load": lambda: load(data),
        "pillow": lambda: plain(data),
        "full": lambda: open_image(data, limits),
        "target": lambda: open_image(data, limits, target),
    }[way]
    limits = ImageLimits(max_bytes=2**31, max_pixels=50_000_000, max_seconds=0)
    Path("/proc/self/clear_refs").write_text("5")
    before, busy = _status("VmRSS"), _busy()
    try:
        image = decode()
        outcome = f"{image.mode} {image.width} x {image.height}"
    except ImageError as error:
        outcome = f"refused: {error}"
    return {"seconds": _busy() - busy, "megabytes": (_status("VmHWM") - before) / 1000, "outcome": outcome}


def _busy() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megapixels", type=float, default=50)
    parser.add_argument("--target", type=int, default=224, help="side in pixels, as the networks' input")
    parser.add_argument("--only", default="", help="photos whose name contains this")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    settings.configure(USE_I18N=False)
    if options.child:
        print(json.dumps(measure(Path(options.child[0]), options.child[1], options.target)))
        return
    side = math.isqrt(int(options.megapixels * 1e6))
    print(f"{side} x {side} pixels; seconds of the processor and MB above the process before")
    heads = ("load", "Pillow", "full size", f"target {options.target}")
    print("photo".ljust(22) + "".join(head.rjust(13) for head in heads) + "  target / Pillow")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo"
        for name, make in PHOTOS.items():
            if options.only in name:
                path.write_bytes(make(side))
                print(_line(name, [_child(path, way, options.target) for way in ("load", "pillow", "full", "target")]))


def _child(path: Path, way: str, target: int) -> dict[str, float | str]:
    command = [sys.executable, "-m", "bench.decode_cost", "--child", str(path), way, "--target", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"seconds": math.nan, "megabytes": math.nan, "outcome": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout)


def _line(name: str, costs: list[dict]) -> str:
    cells = "".join(f"{cost['seconds']:6.2f} s{cost['megabytes']:5.0f}" for cost in costs)
    _load, pillow, _full, ours = costs
    ratio = f"{ours['seconds'] / pillow['seconds']:.2f} s, {ours['megabytes'] / pillow['megabytes']:.2f} MB"
    refused = f"  {ours['outcome']}" if ours["outcome"].startswith("refused") else ""
    return f"{name:22}{cells}  {ratio}{refused}"


if __name__ == "__main__":
    main()
