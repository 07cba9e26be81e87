"""What is decoded is what a browser shows: Chromium's picture of odd files and ours, side by side."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser

from shop_similarity.photos.decoding import open_image
from shop_similarity.photos.dimensions import upright_size
from shop_similarity.photos.limits import ImageLimits
from tests.shop_similarity.photos.odd_files import JPEG, ODD_FILES, RGBA, avif
from tests.shop_similarity.photos.photo_files import difference

pytestmark = pytest.mark.browser

LIMITS = ImageLimits()
MOST_DIFFERENCE = 1.5
"""Of 255, in the mean; what ignoring the oddest chunk changes is more."""
# Where the pairs are kept for the eye, if somebody wants them.
PICTURES = os.environ.get("SHOP_TEST_PICTURES")

# The type is a wrong one for most, as the endings of names often are; browsers look at the bytes.
DRAW = """async (files) => {
  const pictures = [];
  for (const file of files) {
    const bytes = Uint8Array.from(atob(file), (letter) => letter.charCodeAt(0));
    const image = new Image();
    document.body.append(image);
    image.src = URL.createObjectURL(new Blob([bytes], {type: "image/png"}));
    try { await image.decode(); } catch (error) { pictures.push(null); image.remove(); continue; }
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext("2d");
    context.fillStyle = "white";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    const letters = Array.from(pixels, (value) => String.fromCharCode(value));
    pictures.push([canvas.width, canvas.height, btoa(letters.join(""))]);
    image.remove();
  }
  return pictures;
}"""


@pytest.fixture(scope="module")
def shown(chromium: Browser) -> dict[str, Image.Image | None]:
    """Chromium's pictures."""
    page = chromium.new_page()
    answers = page.evaluate(DRAW, [base64.b64encode(data).decode() for data in ODD_FILES.values()])
    page.close()
    pictures = {
        name: answer and Image.frombytes("RGBA", tuple(answer[:2]), base64.b64decode(answer[2])).convert("RGB")
        for name, answer in zip(ODD_FILES, answers, strict=True)
    }
    if PICTURES:
        sheet(pictures).save(Path(PICTURES) / "odd_files.png")
    return pictures


def sheet(pictures: dict[str, Image.Image | None]) -> Image.Image:
    """Each of Chromium's pictures beside ours."""
    across, down = 250, 120
    columns = 6
    whole = Image.new("RGB", (columns * across, -(-len(pictures) // columns) * down), (150, 150, 150))
    draw = ImageDraw.Draw(whole)
    for number, (name, picture) in enumerate(pictures.items()):
        left, top = number % columns * across, number // columns * down
        draw.text((left + 4, top + 2), name, fill="black")
        if picture:
            whole.paste(picture, (left + 4, top + 18))
        whole.paste(open_image(ODD_FILES[name], LIMITS), (left + 128, top + 18))
    return whole


@pytest.mark.parametrize("name", ODD_FILES)
def test_an_odd_photo_is_decoded_as_a_browser_shows_it(name, shown):
    assert shown[name] is not None, "Chromium refuses it, so it is no odd file but a bad one."
    ours = open_image(ODD_FILES[name], LIMITS)
    assert ours.size == shown[name].size == upright_size(ODD_FILES[name], LIMITS)
    assert difference(ours, shown[name]) < MOST_DIFFERENCE


def test_transparency_of_an_avif_is_what_its_file_says():
    # Chromium stretches it as if it were of limited range, though the file says that it is not.
    on_white = Image.new("RGB", RGBA.size, "white")
    on_white.paste(RGBA, mask=RGBA.getchannel("A"))
    assert difference(open_image(avif(RGBA), LIMITS), on_white) < MOST_DIFFERENCE


@pytest.mark.parametrize("cut", [1, 2])
def test_a_jpeg_that_lacks_its_end_mark_and_no_pixel_is_whole(cut):
    # Browsers show it as well, but for some rows that they wait for.
    assert open_image(JPEG[:-cut], LIMITS).tobytes() == open_image(JPEG, LIMITS).tobytes()
    assert difference(open_image(JPEG[:-cut], LIMITS, target_size=16), open_image(JPEG, LIMITS, target_size=16)) == 0


def test_a_small_copy_of_an_odd_photo_is_near_the_whole_one():
    for name, data in ODD_FILES.items():
        whole = open_image(data, LIMITS)
        small = open_image(data, LIMITS, target_size=8)
        # A frame is moved to a whole pixel of the small copy.
        assert difference(whole.reduce(min(whole.size) // 16), small) < (10 if "frame" in name else 2), name
