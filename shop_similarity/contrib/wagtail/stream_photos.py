"""Photos that stand in StreamFields, which are JSON to the database: rows of a model, by which they are found."""

from __future__ import annotations

from typing import Any

from django.db import models

from ... import database
from ...catalogue import get_catalogue


def write_stream_photos(product: models.Model, *fields: str) -> None:
    """Write the images of a product's StreamFields into the model that ``IMAGES`` leads to, in their order.

    Rows of images that stand there already are kept, those of others removed. To be called when the product is
    published.

    Args:
        product: the product as it is shown now.
        fields: names of its StreamFields. Images count in blocks that choose one, however deep, and in rich texts.

    Raises:
        ValueError: ``IMAGES`` does not lead over a model with foreign keys to the product and to an image.
    """
    path = get_catalogue().path
    if not path.product or not path.hops:
        raise ValueError(
            "IMAGES must lead over a model with foreign keys to the product and to an image, such as "
            "'stream_photos.image.file'."
        )
    image: Any = path.row_model._meta.get_field(path.hops[0])
    streams: list[Any] = [product._meta.get_field(name) for name in fields]
    wanted = [
        image.target_field.to_python(key)
        for stream in streams
        for model, key, *_paths in stream.extract_references(getattr(product, stream.name))
        if model is image.related_model
    ]
    with database.atomic():
        rows = path.row_model._base_manager.filter(**{path.product: product})
        for unwanted in rows.exclude(**{f"{image.name}__in": wanted}):
            unwanted.delete()
        known = {getattr(row, image.attname): row for row in rows}
        for place, key in enumerate(dict.fromkeys(wanted)):
            row: Any = known.get(key) or path.row_model(**{path.product: product, image.attname: key})
            if row.pk is None or getattr(row, "sort_order", place) != place:
                row.sort_order = place
                row.save()
