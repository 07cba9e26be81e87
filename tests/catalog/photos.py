"""Photos drawn for the tests of the shop."""

from io import BytesIO

from PIL import Image, ImageDraw


def draw(width: int = 400, height: int = 300, colour=(180, 60, 40), ground=(255, 255, 255), mode: str = "RGB"):
    """A disc in the middle of a plain ground."""
    image = Image.new("RGB", (width, height), ground)
    radius = min(width, height) // 3
    box = (width // 2 - radius, height // 2 - radius, width // 2 + radius, height // 2 + radius)
    ImageDraw.Draw(image).ellipse(box, fill=colour)
    return image.convert(mode)


def encoded(image: Image.Image | None = None, kind: str = "JPEG", **options) -> bytes:
    """The bytes of an image file."""
    buffer = BytesIO()
    (image or draw()).save(buffer, kind, **options)
    return buffer.getvalue()
