"""An image field that knows its size without ever opening a stored file."""

from django.db import models
from PIL import Image

EXIF_ORIENTATION = 0x0112
QUARTER_TURNS = {5, 6, 7, 8}


class PhotoField(models.ImageField):
    """ImageField whose width and height are read once, when a new file is assigned.

    Django's own field opens the file of every loaded row that has no size, and a row whose file is gone then breaks
    each query that meets it. Here a size that cannot be read is NULL and stays NULL. The size is that of the upright
    photo: an EXIF quarter turn swaps the sides.
    """

    def update_dimension_fields(self, instance, force=False, *args, **kwargs):
        if not self.width_field or self.attname not in instance.__dict__:
            return
        file = getattr(instance, self.attname)
        if not force and (not file or file._committed):
            return
        width, height = self._upright_size(file) if file else (None, None)
        setattr(instance, self.width_field, width)
        if self.height_field:
            setattr(instance, self.height_field, height)

    @staticmethod
    def _upright_size(file) -> tuple[int | None, int | None]:
        was_closed = file.closed
        try:
            file.open()
            with Image.open(file.file) as image:
                width, height = image.size
                turned = image.getexif().get(EXIF_ORIENTATION) in QUARTER_TURNS
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None, None
        finally:
            if was_closed:
                file.close()
            elif not file.closed:
                file.seek(0)
        return (height, width) if turned else (width, height)
