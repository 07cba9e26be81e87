"""A shop like django-oscar's: parents and children, stock records with prices, a materialized tree, codes for keys."""

from __future__ import annotations

from django.db import models


class Node(models.Model):
    """A category as django-treebeard's materialized path has it."""

    steplen = 4

    name = models.CharField(max_length=50)
    path = models.CharField(max_length=255, unique=True)
    depth = models.PositiveIntegerField()

    def __str__(self) -> str:
        return self.name


class Group(models.Model):
    """A category as django-mptt has it: a foreign key to itself beside the numbers of the nested set."""

    name = models.CharField(max_length=50, unique=True)
    parent = models.ForeignKey("self", models.CASCADE, null=True)

    def __str__(self) -> str:
        return self.name


class Item(models.Model):
    code = models.CharField(max_length=40, primary_key=True)
    title = models.CharField(max_length=100)
    parent = models.ForeignKey("self", models.CASCADE, related_name="children", null=True)
    nodes = models.ManyToManyField(Node)
    group = models.ForeignKey(Group, models.PROTECT, null=True)
    picture = models.ImageField(blank=True)

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return "/item/"


class StockRecord(models.Model):
    item = models.ForeignKey(Item, models.CASCADE, related_name="stockrecords")
    price = models.DecimalField(max_digits=20, decimal_places=2, null=True)
    num_in_stock = models.PositiveIntegerField(null=True)

    def __str__(self) -> str:
        return f"{self.item_id}: {self.price}"
