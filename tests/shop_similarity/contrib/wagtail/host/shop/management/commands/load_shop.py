"""``load_shop``: two sites, one of them in two languages, with published, hidden and expired products; prints keys."""

import json
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import Group, User
from django.core.management.base import BaseCommand
from django.utils import timezone
from wagtail.images.models import Image
from wagtail.models import GroupPagePermission, Locale, Page, PageViewRestriction, Site

from shop.models import ContentPage, ProductPage, ProductPhoto
from tests.shop_similarity.drawn_photos import photo_file

SHOES = ("red", "blue", "green", "brown")
MUGS = ("red", "blue", "green", "brown")


def image(kind: str, colour: str, pattern: str = "plain", seed: int = 0) -> Image:
    return Image.objects.create(
        title=f"{colour} {kind}", file=photo_file(kind, colour, pattern, size=(600, 450), seed=seed)
    )


def product(parent: Page, title: str, *images: Image, **fields: Any) -> ProductPage:
    page = parent.add_child(instance=ProductPage(title=title, **fields))
    page.gallery_images = [ProductPhoto(image=one, sort_order=place) for place, one in enumerate(images)]
    revision = page.save_revision()
    if fields.get("live", True):
        revision.publish()
    return page


class Command(BaseCommand):
    def handle(self, **options: Any) -> None:
        site = Site.objects.get(is_default_site=True)
        Site.objects.filter(pk=site.pk).update(hostname="localhost")
        german = Locale.objects.create(language_code="de")
        root = Page.get_first_root_node()
        home = root.add_child(instance=ContentPage(title="Start", slug="start"))
        old, site.root_page = site.root_page, home
        site.hostname = "localhost"
        site.save()
        old.delete()
        shop = home.add_child(instance=ContentPage(title="Shop"))
        shoes, mugs = (shop.add_child(instance=ContentPage(title=title)) for title in ("Shoes", "Mugs"))
        shared = image("shoe", "black", "striped")
        made: dict[str, ProductPage] = {}
        for colour in SHOES:
            made[f"{colour} shoe"] = product(
                shoes, f"{colour} shoe".capitalize(), image("shoe", colour), image("shoe", colour, seed=1), shared
            )
        for colour in MUGS:
            made[f"{colour} mug"] = product(mugs, f"{colour} mug".capitalize(), image("mug", colour))
        # The same product at another place of the tree.
        made["alias"] = made["red shoe"].create_alias(parent=shop, update_slug="red-shoe")
        made["draft"] = product(shoes, "A draft", image("shoe", "teal"), live=False)
        past = timezone.now() - timedelta(days=1)
        made["expired"] = product(shoes, "Expired", image("shoe", "grey"))
        # As between the moment of expiry and the next run of `publish_scheduled`.
        ProductPage.objects.filter(pk=made["expired"].pk).update(expire_at=past)
        members = shop.add_child(instance=ContentPage(title="Members"))
        made["private"] = product(members, "For members", image("shoe", "pink"))
        PageViewRestriction.objects.create(page=members, restriction_type=PageViewRestriction.LOGIN)
        # Below the root and of no site.
        made["nowhere"] = product(root, "Nowhere", image("shoe", "purple"))
        other = root.add_child(instance=ContentPage(title="Other", slug="other"))
        Site.objects.create(hostname="other.localhost", port=site.port, root_page=other, site_name="Other")
        made["other site"] = product(other, "Of the other site", image("shoe", "yellow"))
        translated = home.copy_for_translation(german, copy_parents=False)
        translated.title = "Anfang"
        translated.save_revision().publish()
        made["german"] = made["red shoe"].copy_for_translation(german, copy_parents=True)
        made["german"].title = "Roter Schuh"
        made["german"].save_revision().publish()
        for page in Page.objects.filter(locale=german, live=False):
            page.specific.save_revision().publish()
        landing = home.add_child(instance=ContentPage(title="News"))
        chosen = {"heading": "Like the red shoe", "product": made["red shoe"].pk, "limit": 3}
        landing.body = [("paragraph", "<p>New shoes.</p>"), ("similar_products", _of(landing, chosen))]
        landing.save_revision().publish()
        User.objects.create_superuser("boss", "boss@localhost", "boss")
        editors = Group.objects.get(name="Editors")
        editor = User.objects.create_user("editor", "editor@localhost", "editor")
        editor.groups.add(editors)
        GroupPagePermission.objects.get_or_create(group=editors, page=home, permission=_permission("change_page"))
        keys = {name: page.pk for name, page in made.items()} | {"landing": landing.pk, "home": home.pk}
        urls = {name: page.url for name, page in made.items()} | {"landing": landing.url}
        self.stdout.write(json.dumps({"keys": keys, "urls": urls, "shared": shared.pk}))


def _of(page: ContentPage, values: dict[str, Any]) -> Any:
    return page._meta.get_field("body").stream_block.child_blocks["similar_products"].to_python(values)


def _permission(codename: str) -> Any:
    from django.contrib.auth.models import Permission

    return Permission.objects.get(content_type__app_label="wagtailcore", codename=codename)
