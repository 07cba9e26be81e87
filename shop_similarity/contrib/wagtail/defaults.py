"""What ``SHOP_SIMILARITY`` has to say in a Wagtail shop."""

from __future__ import annotations

from typing import Any

_HERE = "shop_similarity.contrib.wagtail"


def wagtail_settings(product_model: str, images: str, *, pages: bool = True) -> dict[str, Any]:
    """The keys of ``SHOP_SIMILARITY`` that describe a shop whose photos are images of Wagtail's library.

    To be called in the shop's settings: ``SHOP_SIMILARITY = {**wagtail_settings("shop.ProductPage", "photo.file"),
    "PRICE": "price"}``. Each key may be overridden there.

    Args:
        product_model: of the products, ``"app_label.Model"``.
        images: from the product to the file of its images: ``"photo.file"`` by a foreign key to an image,
            ``"gallery_images.image.file"`` by an inline panel.
        pages: whether products are pages: the page above one is its category then, and of the translations and
            aliases of a page one is shown. False for snippets and other models.
    """
    of_pages = {
        "CATEGORY": f"{_HERE}.categories.parent_page",
        "VARIANT_GROUP": ("alias_of__translation_key", "translation_key"),
    }
    return {
        "PRODUCT_MODEL": product_model,
        "IMAGES": images,
        "PRODUCTS": f"{_HERE}.products.visible_products",
        "THUMBNAILS": f"{_HERE}.pictures.renditions",
        **(of_pages if pages else {}),
    }
