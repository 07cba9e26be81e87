"""Tokens that name one list of products as it was shown, without anything being stored for it.

A page is rendered far more often than anybody looks at its look-alikes, so nothing is written then. The list travels in
a signed token through the page, and only who sees or clicks something sends it back.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.core import signing
from django.utils.translation import gettext as _

from ..conf import get_settings
from ..models import Experiment, ModelVersion, Surface

MAX_AGE_SECONDS = 86_400
# Of a longer list the first products are counted.
MAX_SHOWN = 100
MAX_LENGTH = 8_192
_SALT = "shop_similarity.feedback"


class BadToken(ValueError):
    """A token that this shop did not issue, or that is too old; the sentence says which."""


@dataclass(frozen=True)
class Query:
    """One list of products as it was shown.

    Attributes:
        id: of this list; a page that is loaded again has another one.
        version_id: key of the model version that found the products.
        experiment_id: key of the experiment whose arm the version was, or None.
        bucket: the visitor's bucket in that experiment, 0 to 999, or None.
        surface: where it was shown, one of :class:`~shop_similarity.models.Surface`.
        product_id: key, as text, of the product whose look-alikes these are; None where there is no single one.
        shown: keys of the products as text, in the order in which they stood.
        issued_at: when the list was made.
    """

    id: uuid.UUID
    version_id: int
    experiment_id: int | None
    bucket: int | None
    surface: str
    product_id: str | None
    shown: tuple[str, ...]
    issued_at: datetime


def issue(
    *,
    version: ModelVersion,
    surface: str,
    product_id: Any = None,
    shown: Sequence[Any],
    experiment: Experiment | None = None,
) -> str:
    """A token for a list that is about to be shown. Nothing is stored.

    Args:
        version: the model version that found the products.
        surface: one of :class:`~shop_similarity.models.Surface`.
        product_id: key of the product whose look-alikes these are.
        shown: keys of the products in their order.
        experiment: what :func:`shop_similarity.storefront.experiment_arms.experiment_for` says; it brings the visitor's
            bucket along.

    Returns:
        At most 8,192 characters that need no escaping in HTML, JSON or an address; the empty string where
        ``RECORD_EVENTS`` is off or the list is empty, so that nothing is to be sent back.

    Raises:
        ValueError: an unknown surface.
    """
    surface = Surface(surface).value
    keys = [str(key) for key in shown[:MAX_SHOWN]]
    if not keys or not get_settings().record_events:
        return ""
    if experiment is not None and version.pk not in (experiment.control_id, experiment.treatment_id):
        experiment = None
    while True:
        token = signing.dumps(
            [
                uuid.uuid4().hex,
                int(datetime.now(UTC).timestamp()),
                version.pk,
                experiment and experiment.pk,
                getattr(experiment, "bucket", None),
                surface,
                None if product_id is None else str(product_id),
                keys,
            ],
            salt=_SALT,
            compress=True,
        )
        if len(token) <= MAX_LENGTH or len(keys) == 1:
            return token if len(token) <= MAX_LENGTH else ""
        keys = keys[: len(keys) // 2]


def read(token: str) -> Query:
    """The list that a token names.

    Raises:
        BadToken: it is not one of this shop's, or older than a day.
    """
    if not isinstance(token, str) or not token or len(token) > MAX_LENGTH:
        raise BadToken(_("The token is missing or is none."))
    try:
        query, issued, version, experiment, bucket, surface, product, shown = signing.loads(
            token, salt=_SALT, max_age=MAX_AGE_SECONDS
        )
    except signing.SignatureExpired as error:
        raise BadToken(_("The token is older than a day: load the list again.")) from error
    except (signing.BadSignature, ValueError, TypeError) as error:
        raise BadToken(_("The token was not issued by this shop, or was changed on its way.")) from error
    return Query(
        uuid.UUID(query),
        version,
        experiment,
        bucket,
        surface,
        product,
        tuple(shown),
        datetime.fromtimestamp(issued, UTC),
    )
