"""Columns that hold keys of the shop's own rows and the vectors of this plugin."""

from __future__ import annotations

from typing import Any

from django.db import models
from pgvector import HalfVector
from pgvector.django import BitField
from pgvector.django import HalfVectorField as PgvectorField

__all__ = ["BitField", "HalfVectorField", "ImageKeyField", "ProductKeyField"]


class HalfVectorField(PgvectorField):
    """A vector in half precision; what is read from the database is a list of numbers.

    Before pgvector 0.5 it was an object of a type that NumPy does not know.
    """

    def deconstruct(self) -> tuple[str, str, list, dict[str, Any]]:
        name, _path, arguments, named = super().deconstruct()
        # The column is the same, so no migration has to know of this class.
        return name, "pgvector.django.halfvec.HalfVectorField", arguments, named

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> list[float] | None:
        vector = super().from_db_value(value, expression, connection)
        return vector.to_list() if isinstance(vector, HalfVector) else vector


class _KeyField(models.Field):
    """The primary key of a row of the shop, in a column of that key's own type, without a foreign key.

    A constraint would let this plugin forbid a shop to delete its own rows by raw SQL, and a ``ForeignKey`` would tie
    the plugin's migrations to those of the shop. The type of the column is the only thing taken from the shop's
    model, at the time the column is made; joins and ``IN (SELECT ...)`` then need no cast.
    """

    # Which model of the catalogue the key belongs to.
    catalogue_model = ""

    def target(self) -> models.Field:
        """The shop's key itself; whoever converts many values asks it once."""
        from .catalogue import get_catalogue
        from .catalogue.product_keys import concrete_key

        return concrete_key(getattr(get_catalogue(), self.catalogue_model))

    def db_type(self, connection: Any) -> str | None:
        return self.target().rel_db_type(connection)

    def get_internal_type(self) -> str:
        # A copy of an automatic key is no automatic key itself.
        return self.target().get_internal_type().replace("AutoField", "IntegerField")

    def get_prep_value(self, value: Any) -> Any:
        return self.target().get_prep_value(value)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return self.target().get_db_prep_value(value, connection, prepared)

    def get_db_converters(self, connection: Any) -> list:
        return self.target().get_db_converters(connection)

    def to_python(self, value: Any) -> Any:
        return self.target().to_python(value)


class ProductKeyField(_KeyField):
    """The primary key of a product."""

    catalogue_model = "product_model"


class ImageKeyField(_KeyField):
    """The primary key of the row that holds an image: of the image model, or of the product itself."""

    catalogue_model = "image_model"
