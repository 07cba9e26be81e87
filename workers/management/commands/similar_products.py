"""``manage.py similar_products``: look-alikes of a product or of a picture file, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import models

from shop_similarity import database
from shop_similarity.catalogue import NotAKeyError, get_catalogue, product_key
from shop_similarity.conf import get_settings
from shop_similarity.models import Embedding, ModelVersion
from shop_similarity.photos.errors import ImageError
from shop_similarity.photos.limits import catalogue_limits
from shop_similarity.search import SearchOptions, similar_products
from shop_similarity.training.extras import ExtraMissing
from shop_similarity.visual_search import prepare_photo, products_like


class Command(BaseCommand):
    help = "Shows the products that look like a product of the shop or like a picture file."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "product_or_image", metavar="PRODUCT_OR_IMAGE", help="Primary key of a product, or path of a picture."
        )
        parser.add_argument("-k", type=int, default=10, metavar="K", help="How many products (10).")
        parser.add_argument("--model", metavar="VERSION", help="Name of a model version; the active one by default.")
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    @database.on_primary()
    def handle(self, *args: Any, **options: Any) -> None:
        if options["k"] < 1:
            raise CommandError("-k must be at least 1.")
        version = self._version(options["model"])
        target = options["product_or_image"]
        product = _find_product(target)
        if product is not None:
            if not Embedding.objects.filter(version=version, product_id=product.pk).exists():
                raise CommandError(
                    f"Product {target} ({product}) has no embedding in {version.name}: run `manage.py embed_products`."
                )
            query = {"product": str(product.pk), "name": str(product)}
            found: list[Any] = similar_products(product, options["k"], version=version)
        elif Path(target).is_file():
            query = {"image": target}
            vector = self._vector(version, Path(target))
            found = products_like(vector, version, SearchOptions(limit=options["k"]))
        else:
            raise CommandError(f"{target!r} is neither the key of a product nor a picture file.")
        results = [
            {"product": str(item.pk), "name": str(item), "similarity": round(item.similarity, 4)} for item in found
        ]
        if options["json"]:
            self.stdout.write(json.dumps({"query": query, "version": version.name, "similar": results}))
            return
        self.stdout.write(f"Similar to {query.get('name') or query['image']} ({version.name}):")
        for row in results:
            self.stdout.write(f"{row['similarity']:7.4f}  {row['product']}  {row['name']}")

    def _version(self, name: str | None) -> ModelVersion:
        version = ModelVersion.objects.filter(name=name).first() if name else ModelVersion.objects.active()
        if version is None:
            raise CommandError(
                f"There is no model version {name!r}."
                if name
                else "No model version is active: run `manage.py calibrate_mildnet --activate`."
            )
        return version

    def _vector(self, version: ModelVersion, path: Path) -> Any:
        """What a search by photo with this picture asks with."""
        from shop_similarity.workers.embedder import get_embedder
        from shop_similarity.workers.visual_queries import asking_vector, embed_photo

        try:
            photo = prepare_photo(path, limits=catalogue_limits())
        except (ImageError, OSError) as error:
            raise CommandError(str(error)) from error
        try:
            vector, _regions = embed_photo(photo, get_embedder(version), get_settings().visual_search_objects)
            return asking_vector(version, vector)
        except ExtraMissing as error:
            raise CommandError(str(error)) from error


def _find_product(key: str) -> models.Model | None:
    try:
        return get_catalogue().all_products().filter(pk=product_key(key)).first()
    except NotAKeyError:
        return None
