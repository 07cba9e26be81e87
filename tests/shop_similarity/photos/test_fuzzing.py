"""Valid files of each format, damaged at random: a photo or the plugin's own error, for a bounded price."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from shop_similarity.photos.decoding import open_image
from shop_similarity.photos.limits import ImageLimits
from tests.shop_similarity.photos.bad_files import BAD_FILES
from tests.shop_similarity.photos.decoding_child import DecodingChild, Died
from tests.shop_similarity.photos.photo_files import SEEDS, difference, drawn, encoded

MAX_PIXELS = 1_000_000
MAX_BYTES = 2**20
# What a file may cost at most: so many times the dearest honest photo of as many pixels as are allowed.
TIMES_SECONDS, TIMES_MEGABYTES = 10, 3
FORMATS = {"JPEG": {}, "PNG": {}, "WEBP": {"lossless": True}, "GIF": {}, "AVIF": {}, "BMP": {}, "TIFF": {}}


@pytest.fixture(scope="module")
def child() -> Iterator[DecodingChild]:
    child = DecodingChild()
    yield child
    child.close()


@pytest.fixture(scope="module")
def price(child: DecodingChild) -> dict[str, float]:
    """Seconds and megabytes of the dearest honest photo."""
    side = 1000
    costs = []
    for format_, options in FORMATS.items():
        photo = drawn(side, side).quantize(256) if format_ in ("BMP", "TIFF") else drawn(side, side)
        costs.append(child.decode(encoded(photo, format_, **options), MAX_PIXELS, None))
    assert {cost["outcome"] for cost in costs} == {"image"}
    return {name: max(cost[name] for cost in costs) for name in ("seconds", "megabytes")}


def check(child: DecodingChild, price: dict[str, float], data: bytes, target_size: int | None) -> str:
    """The outcome, if the file keeps to the contract; times are of the processor, and the least of three."""
    tries: list[dict[str, Any]] = []
    while True:
        tries.append(child.decode(data, MAX_PIXELS, target_size))
        assert not tries[-1]["problem"], tries[-1]["problem"]
        seconds, megabytes = (min(each[name] for each in tries) for name in ("seconds", "megabytes"))
        if seconds <= TIMES_SECONDS * price["seconds"] and megabytes <= TIMES_MEGABYTES * price["megabytes"]:
            return tries[-1]["outcome"]
        assert len(tries) < 3, f"{seconds:.2f} s and {megabytes:.0f} MB; an honest photo: {price}"


Mutation = tuple[Any, ...]
# Places are parts of 1 of the file; half of them lie among the first bytes, where headers and tables are.
PLACES = st.one_of(st.floats(0, 1, exclude_max=True), st.integers(0, 150).map(lambda byte: -byte - 1))
NUMBERS = st.sampled_from((0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**24, 2**31 - 1, 2**31, 2**32 - 1))
LENGTHS = st.integers(1, 400)
MUTATIONS = st.one_of(
    st.tuples(st.just("set"), PLACES, st.integers(0, 255)),
    st.tuples(st.just("flip"), PLACES, st.integers(0, 7)),
    st.tuples(st.just("cut off"), PLACES),
    st.tuples(st.just("cut out"), PLACES, LENGTHS),
    st.tuples(st.just("repeat"), PLACES, LENGTHS, st.integers(1, 3000)),
    st.tuples(st.just("splice"), PLACES, st.sampled_from(sorted(SEEDS)), PLACES, LENGTHS),
    st.tuples(st.just("number"), PLACES, st.sampled_from((">H", "<H", ">I", "<I")), NUMBERS),
)


def mutated(data: bytes, mutations: list[Mutation], is_repaired: bool) -> bytes:
    for kind, place, *details in mutations:
        at = _position(place, data)
        match kind:
            case "set":
                data = data[:at] + bytes(details) + data[at + 1 :]
            case "flip":
                data = data[:at] + bytes(byte ^ 1 << details[0] for byte in data[at : at + 1]) + data[at + 1 :]
            case "cut off":
                data = data[:at]
            case "cut out":
                data = data[:at] + data[at + details[0] :]
            case "repeat":
                length, times = details
                data = data[:at] + data[at : at + length] * times + data[at + length :]
            case "splice":
                name, start, length = details
                other = SEEDS[name]
                start = _position(start, other)
                data = data[:at] + other[start : start + length] + data[at:]
            case "number":
                form, number = details
                size = struct.calcsize(form)
                data = data[:at] + struct.pack(form, number % 256**size) + data[at + size :]
        data = data[:MAX_BYTES]
    return repaired(data) if is_repaired else data


def _position(place: float, data: bytes) -> int:
    return min(-place - 1, len(data)) if place < 0 else int(place * len(data))


def repaired(data: bytes) -> bytes:
    """A PNG with the checksums of its chunks right again: a wrong one hides all that lies behind it."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    data, position = bytearray(data), 8
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[position + 4 : end]))
        position = end + 4
    return bytes(data[:MAX_BYTES])


FILES = st.tuples(st.lists(MUTATIONS, min_size=1, max_size=8), st.booleans(), st.sampled_from((None, 8, 224)))
FUZZING = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


def fuzz(child: DecodingChild, price: dict[str, float], name: str, examples: int, *, is_repeatable: bool) -> set[str]:
    outcomes = set()

    @settings(FUZZING, max_examples=examples, derandomize=is_repeatable)
    @given(FILES)
    @example(([], False, None))
    @example(([("cut off", 0.5)], False, None))
    def run(file: tuple[list[Mutation], bool, int | None]) -> None:
        mutations, is_repaired, target_size = file
        outcomes.add(check(child, price, mutated(SEEDS[name], mutations, is_repaired), target_size))

    run()
    return outcomes


@pytest.mark.parametrize("name", SEEDS)
def test_random_damage_gives_a_photo_or_an_image_error(child, price, name):
    outcomes = fuzz(child, price, name, 60, is_repeatable=True)
    assert "image" in outcomes
    assert "ImageUnreadable" in outcomes
    assert outcomes <= {"image", "ImageUnreadable", "ImageTooLarge", "ImageTypeNotAllowed"}


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("name", SEEDS)
def test_much_random_damage(child, price, name):
    # New damages are for whoever looks for faults, not for a change that has nothing to do with them.
    is_repeatable = "CI" in os.environ
    assert "ImageUnreadable" in fuzz(child, price, name, 250 if is_repeatable else 1500, is_repeatable=is_repeatable)


@pytest.mark.parametrize("bad", BAD_FILES, ids=lambda bad: bad.name)
@pytest.mark.parametrize("target_size", [None, 224])
def test_a_bad_file_is_refused(child, bad, target_size):
    answer = child.decode(bad.build(), 50_000_000, target_size)
    assert not answer["problem"]
    assert answer["outcome"] == bad.error.__name__
    assert answer["megabytes"] < 150


@pytest.mark.parametrize("target_size", [None, 224])
def test_a_webp_frame_that_claims_more_than_the_whole_costs_no_more_than_the_whole(child, target_size):
    honest, claiming = SEEDS["webp-animated"], bytearray(SEEDS["webp-animated"])
    size_of_frame = claiming.index(b"ANMF") + 14
    claiming[size_of_frame : size_of_frame + 6] = (65_000).to_bytes(3, "little") + (6_000).to_bytes(3, "little")
    answer = child.decode(bytes(claiming), MAX_PIXELS, target_size)
    assert (answer["outcome"], answer["problem"]) == ("image", None)
    assert answer["megabytes"] < 10
    limits = ImageLimits(max_pixels=MAX_PIXELS, max_seconds=0)
    shown, meant = (open_image(data, limits, target_size=target_size) for data in (bytes(claiming), honest))
    assert shown.size == meant.size and not difference(shown, meant)


def test_a_crash_is_seen_and_named(child):
    child.close()
    child.decode(SEEDS["png"], MAX_PIXELS, None)
    child.process.kill()
    with pytest.raises(Died, match="SIGKILL"):
        child.decode(SEEDS["png"], MAX_PIXELS, None)
    assert child.decode(SEEDS["png"], MAX_PIXELS, None)["outcome"] == "image"


def test_repaired_checksums():
    data = bytearray(SEEDS["png"])
    data[data.index(b"IHDR") + 17] ^= 0xFF
    assert repaired(bytes(data)) == SEEDS["png"]
    assert Image.MIME["PNG"] == "image/png"
