"""The searches themselves: from products or a vector to the products of a list."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from django.db import models
from django.db.models import QuerySet

from .. import database
from ..catalogue import get_catalogue
from ..catalogue.stock import in_stock
from ..conf import get_settings
from ..models import Embedding, ModelVersion
from . import aspects
from .attributes import AttributeWeights, any_of, restricted
from .candidates import Scope, pools
from .options import SearchOptions
from .queries import Query, vectors_from
from .ranking import Place, Ranking
from .rules import NO_RULES, Rules, rules_for
from .sql import Sql

# Leaning to these asks with the product's first photo alone.
_OF_THE_FRONT = ("colour", "pattern")


def searched_version() -> ModelVersion | None:
    """The version that searches use now. Its metrics, which pages do not need, are left in the table."""
    return ModelVersion.objects.defer("metrics", "config", "preprocessing").active()


def can_lean(version: ModelVersion | None = None) -> bool:
    """Whether results of a version (the active one by default) can lean towards an aspect and be explained.

    Where it can't, ``SearchOptions.lean`` is ignored and every ``explanation`` is None.
    """
    version = version or searched_version()
    return version is not None and aspects.has_aspects(version)


def similar_products(
    product: models.Model,
    limit: int | None = None,
    among: QuerySet | None = None,
    *,
    version: ModelVersion | None = None,
    options: SearchOptions | None = None,
) -> list[models.Model]:
    """Products that look like ``product``, best first.

    Args:
        product: an instance of the product model.
        limit: how many, 8 by default; that many come back whenever so many others are embedded in ``among`` that are
            no variants of each other. Not together with options, which come with a limit of their own.
        among: queryset of the products that may be returned; what the ``PRODUCTS`` setting says by default.
        version: model version to search with; the active one by default.
        options: filters, page, diversity and so on; by default what the settings say. With a ``lean`` to colour or
            pattern the product's first photo alone is asked with.

    Returns:
        Product instances with their photos prefetched, each with

        * ``similarity``: cosine of the two most similar photos, -1 to 1, whatever the ranking added to it; if the
          product's is not its first one, times the ``OTHER_PHOTOS_WEIGHT`` setting; with
          ``options.lean`` the cosine with the leaned query; None for a pinned product that has no embedding;
        * ``similar_image_id``: key of the photo that is most similar, or None;
        * ``pinned``: whether a merchandising rule has put it into its place;
        * ``explanation``: an :class:`~shop_similarity.search.aspects.Explanation` of the similarity with
          ``options.explain`` and a version that can explain, else None.

        While the product has no embedding, or nothing reaches ``MIN_SIMILARITY``, pinned products alone, or nothing.
        Products that share the product's category come first where they are nearly as similar, see ``CATEGORY_BOOST``.

    Raises:
        TypeError: ``limit`` and ``options`` are both given.
        ValueError: ``limit`` is negative, ``among`` is a queryset of another model, or the filters name what can't be.
    """
    options = SearchOptions.of(limit, options, min_similarity=get_settings().min_similarity)
    version = version or searched_version()
    allowed = allowed_products(among, options, [product])
    if version is None or product.pk is None:
        return []
    return load(similar_places(product, version, allowed, options), allowed)


def similar_to_several(
    products: Sequence[models.Model],
    limit: int | None = None,
    among: QuerySet | None = None,
    *,
    version: ModelVersion | None = None,
    options: SearchOptions | None = None,
) -> list[models.Model]:
    """Products that look like several products at once, such as those in a basket, best first.

    A product's similarity is the mean, over the products asked with, of the cosine of the two most similar photos, so
    that one that is a little like everything stands beside one that is much like a single thing. Of many products the
    last 20 count. Products without an embedding are passed over; rules of each of them apply.

    Args:
        products: instances of the product model, those put in last at the end; they are not found themselves.
        limit, among, version, options: as for :func:`similar_products`.

    Returns:
        Product instances as :func:`similar_products` returns them.

    Raises:
        TypeError, ValueError: as :func:`similar_products`.
    """
    options = SearchOptions.of(limit, options, min_similarity=get_settings().min_similarity)
    version = version or searched_version()
    allowed = allowed_products(among, options, products)
    by_key = {product.pk: product for product in products if product.pk is not None}
    if version is None or not by_key:
        return []
    several = list(by_key.values())
    return load(_places(version, Query.of_products(version, several), allowed, options, products=several), allowed)


def search_by_vector(
    vector: Sequence[float] | np.ndarray,
    limit: int | None = None,
    among: QuerySet | None = None,
    exclude: Collection[Any] = (),
    *,
    version: ModelVersion | None = None,
    options: SearchOptions | None = None,
    scale: float = 1.0,
) -> list[models.Model]:
    """Products that look like what a vector was made of, best first. Rules for all products apply.

    Args:
        vector: (4096,) embedding by the same model version.
        limit, among, version, options: as for :func:`similar_products`.
        exclude: keys of products to leave out.
        scale: what cosines are multiplied by to be similarities: above 1 for a vector that asks otherwise than vectors
            are stored, so that its cosine is less than 1 even with the photo that it was made of.

    Returns:
        Product instances as :func:`similar_products` returns them.

    Raises:
        ValueError: the vector has another length, is not finite or is zero, or the scale is not above 0 and finite.
        TypeError, ValueError: as :func:`similar_products`.
    """
    options = SearchOptions.of(limit, options)
    version = version or searched_version()
    allowed = allowed_products(among, options)
    if version is None:
        return []
    return load(_places(version, Query.of_vector(vector, scale), allowed, options, exclude=exclude), allowed)


def allowed_products(among: QuerySet | None, options: SearchOptions, products: Sequence[models.Model] = ()) -> QuerySet:
    """The products that a search may return: ``among``, or the shop's visible ones, in stock, behind the filters.

    Args:
        among: queryset of the products that may be returned.
        options: the filters, and which attributes have to be the same as those of ``products``, or others.
        products: what is asked with; without them no attribute counts.

    Raises:
        ValueError: ``among`` is a queryset of another model or yields no instances, or the filters name what can't be.
    """
    catalogue = get_catalogue()
    if among is None:
        among = catalogue.visible_products()
    elif not issubclass(among.model, catalogue.product_model):
        raise ValueError(f"among is a queryset of {among.model._meta.label}, not of products.")
    allowed = options.filters.apply(among)
    if products and (options.same or options.other):
        allowed = restricted(allowed, products, options.same, options.other)
    return allowed if options.sold_out else in_stock(allowed)


def similar_places(
    product: models.Model, version: ModelVersion, allowed: QuerySet, options: SearchOptions
) -> list[Place]:
    """The result of :func:`similar_products` by key; ``allowed`` is what :func:`allowed_products` gave."""
    query = Query.of_product(version, product)
    # Photos of one product often show it in several colours; "the same colour" means that of the one in front.
    front = Query.of_product(version, product, photos=1) if options.lean in _OF_THE_FRONT else None
    return _places(version, query, allowed, options, products=[product], front=front)


def load(places: Sequence[Place], allowed: QuerySet) -> list[models.Model]:
    """The instances of a result, as they are in the database now; one that is no longer allowed is left out."""
    if not places:
        return []
    catalogue = get_catalogue()
    wanted = allowed.order_by().filter(pk__in=[place.product_id for place in places])
    # With attributes that their model has not.
    by_key: dict[Any, Any] = {product.pk: product for product in catalogue.with_images(wanted)}
    products = []
    for place in places:
        if (product := by_key.get(place.product_id)) is not None:
            product.similarity, product.similar_image_id = place.similarity, place.image_id
            product.pinned, product.explanation = place.pinned, place.explanation
            products.append(product)
    return products


def _places(
    version: ModelVersion,
    query: Query,
    allowed: QuerySet,
    options: SearchOptions,
    *,
    products: Sequence[models.Model] = (),
    exclude: Collection[Any] = (),
    front: Query | None = None,
) -> list[Place]:
    if options.limit == 0:
        return []
    keys = [product.pk for product in products]
    rules = rules_for(products) if options.rules else NO_RULES
    # A product that stands for one that was asked with is no look-alike of it.
    shown = [get_catalogue().shown_key(product) for product in products]
    exclude = {*exclude, *keys, *shown, *rules.hidden_products}
    searched = query
    if options.lean is not None and get_settings().lean_strength and aspects.has_aspects(version):
        vectors, parts, weights = (front or query).fetch()
        if front is not None and len(vectors):
            query = front
        elif front is not None:
            # The first photo is not embedded yet.
            vectors, parts, weights = query.fetch()
        if len(vectors):
            leaned = aspects.lean_vectors(version, vectors, options.lean, get_settings().lean_strength)
            searched = Query.of_vectors(leaned, parts, weights)
    if products and (rules.same or rules.other):
        allowed = restricted(allowed, products, rules.same, rules.other)
    attributes = AttributeWeights.of(rules.attribute_boosts if products else {}, products)
    hidden = rules.hidden()
    scope = Scope(
        version,
        searched,
        allowed,
        exclude=exclude,
        hidden=hidden,
        query_keys=list(dict.fromkeys([*keys, *shown])),
        candidate_keys=[key for key in rules.candidate_keys if key not in exclude],
        boosted=any_of(rules.boosted(), attributes.lifted()),
    )
    ranking = Ranking(options, rules, _pinnable(rules, allowed, exclude, hidden))
    for pool in pools(scope, options.limit):
        ranking.extend(pool, attributes.boosts([candidate.product_id for candidate in pool.candidates]))
        if ranking.is_complete:
            break
    places = ranking.page()
    return _explained(version, query, places) if options.explain else places


def _pinnable(rules: Rules, allowed: QuerySet, exclude: Collection[Any], hidden: Collection[QuerySet]) -> set[Any]:
    """Keys of the pinned products that may be shown, embedded or not."""
    pinned = [pin.product_id for pin in rules.pins if pin.product_id is not None and pin.product_id not in exclude]
    if not pinned:
        return set()
    products = allowed.order_by().filter(pk__in=pinned)
    for others in hidden:
        products = products.exclude(pk__in=others.values("pk"))
    return set(products.values_list("pk", flat=True))


def _explained(version: ModelVersion, query: Query, places: list[Place]) -> list[Place]:
    """The places with what their similarities are made of."""
    field = Embedding._meta.get_field("image_id")
    connection = database.connection(database.read_alias())
    keys = [place.image_id for place in places if place.image_id is not None]
    if not keys or not aspects.has_aspects(version):
        return places
    vectors = Sql.of(
        "SELECT weight, NULL AS image_id, halfvec_send(vector) AS vector FROM ({query}) given UNION ALL "
        "SELECT NULL, image_id, halfvec_send(vector) FROM {table} "
        "WHERE version_id = {version} AND image_id = ANY({keys})",
        query=query.sql,
        table=Sql(Embedding._meta.db_table),
        version=Sql.number(version.pk),
        keys=[field.get_db_prep_value(key, connection) for key in keys],
    )
    rows = vectors.rows()
    asked = [row for row in rows if row.weight is not None]
    photos = [row for row in rows if row.weight is None]
    explanations = aspects.explain(
        version,
        vectors_from([row.vector for row in asked]),
        vectors_from([row.vector for row in photos]),
        [row.weight for row in asked],
        query.scale,
    )
    by_photo = {field.to_python(row.image_id): value for row, value in zip(photos, explanations, strict=True)}
    return [replace(place, explanation=by_photo.get(place.image_id)) for place in places]
