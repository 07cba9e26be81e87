"""Shops whose photos hang on products in other ways than the reference shop's; a test names one in its settings.

All keys are of one kind, as the columns of the plugin are made once for all of them.
"""
# ruff: noqa: DJ008, DJ012

from __future__ import annotations

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models


class Shown(models.Manager):
    """Leaves out what was deleted softly."""

    def get_queryset(self):
        return super().get_queryset().filter(is_deleted=False)


class Image(models.Model):
    """One of a library that products share, as Wagtail's."""

    title = models.CharField(max_length=50, blank=True)
    file = models.ImageField(upload_to="library")
    is_deleted = models.BooleanField(default=False)

    objects = Shown()
    everything = models.Manager()


class Print(models.Model):
    """A product with one shared image."""

    photo = models.ForeignKey(Image, models.SET_NULL, null=True, blank=True)


class Piece(models.Model):
    """A product with a gallery of shared images."""

    title = models.CharField(max_length=50, blank=True)


class GalleryItem(models.Model):
    piece = models.ForeignKey(Piece, models.CASCADE, related_name="gallery")
    image = models.ForeignKey(Image, models.CASCADE, related_name="+")
    sort_order = models.IntegerField(default=0)

    class Meta:
        ordering = ["sort_order"]


class Vase(models.Model):
    """A product with many shared images, in a table that Django makes."""

    photos = models.ManyToManyField(Image, related_name="+")


class Bowl(models.Model):
    """A product with many shared images, in a table of the shop's own."""

    photos = models.ManyToManyField(Image, through="BowlPhoto", related_name="bowls")


class BowlPhoto(models.Model):
    bowl = models.ForeignKey(Bowl, models.CASCADE)
    image = models.ForeignKey(Image, models.CASCADE)
    place = models.IntegerField(default=0)

    class Meta:
        ordering = ["place"]


class Album(models.Model):
    """Photos that know which products they show."""

    lamps = models.ManyToManyField("Lamp", related_name="photos")
    file = models.FileField(upload_to="albums")


class Attachment(models.Model):
    """A file of anything, found by a key that is text or a number."""

    # Tables of apps without migrations are made before that of content types.
    content_type = models.ForeignKey(ContentType, models.CASCADE, db_constraint=False)
    object_id = models.CharField(max_length=50)
    number = models.PositiveIntegerField(null=True)
    target = GenericForeignKey()
    file = models.FileField(upload_to="attachments")
    kind = models.CharField(max_length=10, default="photo")


class Lamp(models.Model):
    attachments = GenericRelation(Attachment)
    numbered = GenericRelation(Attachment, object_id_field="number")


class Shade(Lamp):
    """A lamp of a subtype, whose attachments have a content type of their own."""


class Garment(models.Model):
    """A product with parents and children, as django-oscar's."""

    title = models.CharField(max_length=50)
    parent = models.ForeignKey("self", models.CASCADE, null=True, blank=True, related_name="children")
    is_public = models.BooleanField(default=True)

    def __str__(self) -> str:
        return self.title


def parents_alone() -> models.QuerySet:
    return Garment.objects.filter(parent=None)


class GarmentPhoto(models.Model):
    product = models.ForeignKey(Garment, models.CASCADE, related_name="images")
    original = models.FileField(upload_to="garments")
    kind = models.CharField(max_length=10, default="photo")
    is_deleted = models.BooleanField(default=False)
    display_order = models.IntegerField(default=0)

    objects = Shown()
    everything = models.Manager()

    class Meta:
        ordering = ["display_order"]


def photos_alone(rows: models.QuerySet) -> models.QuerySet:
    return rows.filter(original__iendswith=".jpg").order_by("-pk").distinct()


class Coded(models.Model):
    """A product that others point to by its code."""

    code = models.CharField(max_length=20, unique=True)
    parent = models.ForeignKey("self", models.CASCADE, to_field="code", null=True, blank=True)


class CodedPhoto(models.Model):
    product = models.ForeignKey(Coded, models.CASCADE, to_field="code", related_name="photos")
    file = models.FileField(upload_to="coded")


class Item(models.Model):
    """What books and toys are; photos hang on it."""

    title = models.CharField(max_length=50, blank=True)
    cover = models.FileField(upload_to="covers", blank=True)


class ItemPhoto(models.Model):
    item = models.ForeignKey(Item, models.CASCADE, related_name="photos")
    file = models.FileField(upload_to="items")


class Book(Item):
    """A product with the table of its parent."""

    pages = models.IntegerField(default=0)


class Novelty(Item):
    """A product without a table of its own."""

    class Meta:
        proxy = True


class Node(models.Model):
    """A row of a tree of which products are the leaves, as Wagtail's pages."""

    steplen = 4
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

    title = models.CharField(max_length=50)
    path = models.CharField(max_length=255, unique=True)
    numchild = models.IntegerField(default=0)
    url = "/node/"

    def __str__(self) -> str:
        return self.title


class Leaf(Node):
    """A product that is a row of the tree, with a photo of its own."""

    photo = models.FileField(upload_to="leaves", blank=True)
