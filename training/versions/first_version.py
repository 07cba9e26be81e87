"""The first model version of a shop: ImageNet weights, calibrated on the shop's own photos.

No training is needed, and no label but what every catalogue says: which photos are of one product. A seeded sample of
products is pushed through the pretrained backbone, the linear head is set from what comes out
(:mod:`shop_similarity.training.heads.calibration`), and the whole model is stored as a
:class:`~shop_similarity.models.ModelVersion`. Recipe and reasons: ``docs/model.md``.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from shop_similarity.catalogue import ImageRow, get_catalogue
from shop_similarity.conf import get_settings
from shop_similarity.embedding.vectors import SAMPLE, are_nearly_the_same, unusable_rows
from shop_similarity.models import ModelVersion
from shop_similarity.photos.decoding import ImageError, open_image
from shop_similarity.photos.limits import catalogue_limits
from shop_similarity.photos.storage_faults import final_sentence, passing_sentence
from shop_similarity.training.errors import TrainingError
from shop_similarity.training.heads import recipe
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.threads import ordered_map
from shop_similarity.training.triplets.product_groups import group_names, keys_of_the_shop, product_name
from shop_similarity.training.triplets.sides import TRAINING, side_of
from shop_similarity.training.versions.lineage import SEEN, Seen
from shop_similarity.training.versions.storing import NameTaken, free_name, store_version

if TYPE_CHECKING:
    import keras

    from shop_similarity.training.networks.backbones.weights import TrunkWeights
    from shop_similarity.training.networks.encoders import OpenedEncoder

# Photos of one product that are sampled at most: more products say more about a shop than more photos of a few.
PHOTOS_PER_PRODUCT = 4
# Called as progress(what, done, total); total is 0 while unknown.
Progress = Callable[[str, int, int], None]


class FirstVersionError(TrainingError):
    """No version could be made; the sentence says what to do."""


@dataclass(frozen=True)
class Skipped:
    """A photo of the sample that could not be used."""

    file_name: str
    reason: str


def make_first_version(
    weights: TrunkWeights | OpenedEncoder,
    name: str | None = None,
    sample: int = recipe.SAMPLE,
    config: Mapping[str, Any] | None = None,
    preprocessing: Preprocessing | None = None,
    seed: int = recipe.SEED,
    progress: Progress | None = None,
    architecture: str | None = None,
    then: Callable[[keras.Model, np.ndarray], None] | None = None,
) -> tuple[ModelVersion, list[Skipped]]:
    """Calibrate on the shop's photos and store the model as a candidate.

    Args:
        weights: pretrained weights of the architecture's backbones; their normalisation becomes the version's.
        name: of the version; a free one by default.
        sample: photos to calibrate on at most.
        config: options of the architecture; the measured recipe by default.
        preprocessing: geometry of the input; the measured one by default.
        seed: of the sample and of the lift.
        progress: called as ``progress(what, done, total)``.
        architecture: a key of :data:`shop_similarity.training.heads.recipe.RECIPES`; by default
            :data:`shop_similarity.training.heads.recipe.DEFAULT`.
        then: called with the stored version's model and the features ``(n, d)`` that it was calibrated on, for what
            else can be made of them.

    Returns:
        The stored version and the photos of the sample that could not be used.

    Raises:
        FirstVersionError: the name is taken, or no photo could be used.
        ValueError: for an architecture without a recipe, or options that it does not have.
    """
    architecture = architecture or recipe.DEFAULT
    if architecture not in recipe.RECIPES:
        raise ValueError(f"{architecture!r} cannot be calibrated. Known: {', '.join(recipe.RECIPES)}.")
    chosen = recipe.RECIPES[architecture]
    try:
        name = free_name(name, architecture)
    except NameTaken as error:
        raise FirstVersionError(str(error)) from error
    rows = sample_rows(sample, seed)
    if not rows:
        raise FirstVersionError(
            _("The shop has no photo yet, so there is nothing to calibrate on. Add products with photos and try again.")
        )
    from shop_similarity.training.heads.calibration import calibrate_head
    from shop_similarity.training.networks.architectures import build, feature_model, full_config
    from shop_similarity.training.networks.architectures.mildnet import MildnetConfig
    from shop_similarity.training.networks.precision import dtype_policy, fast_policy
    from shop_similarity.training.networks.runner import extract

    whole = full_config(architecture, chosen.config if config is None else config)
    # The recipes are those of MILDNet, on several backbones.
    assert isinstance(whole, MildnetConfig)
    preprocessing = replace(preprocessing or chosen.preprocessing, mean=weights.mean, std=weights.std)
    skipped: list[Skipped] = []
    used: list[ImageRow] = []
    policy = fast_policy(whole.spec)
    with dtype_policy(policy):
        model = build(architecture, whole.to_dict(), preprocessing)
    weights.apply(model)
    what = _("Looking at the shop's photos")
    features = extract(
        feature_model(model),
        prepared_photos(rows, preprocessing, skipped, used),
        get_settings().batch_size,
        progress and (lambda done: progress(what, done + len(skipped), len(rows))),
    )
    if not len(features):
        raise FirstVersionError(
            ngettext(
                "The one photo that was tried cannot be used, so there is nothing to calibrate on: %(reason)s",
                "None of the %(count)d photos that were tried can be used, so there is nothing to calibrate on. "
                "The first one: %(reason)s",
                len(skipped),
            )
            % {"count": len(skipped), "reason": skipped[0].reason}
        )
    products, learned = _products_to_learn_from(used)
    head = calibrate_head(
        model,
        features,
        whole,
        strength=chosen.whitening,
        seed=seed,
        tap_trust=recipe.trust_by_depth(whole.taps) if chosen.tap_trust is None else chosen.tap_trust,
        products=products,
    )
    _require_usable(model, features)
    version = store_version(
        model,
        name=name,
        architecture=architecture,
        config=whole.to_dict(),
        preprocessing=preprocessing,
        weights_source=weights.source,
        metrics={
            "calibration": {
                **head.figures(),
                "skipped": len(skipped),
                "seed": seed,
                "strength": chosen.whitening,
                "precision": policy,
                "backbone_sha256": weights.sha256,
            },
            SEEN: Seen.of_products(keys_of_the_shop(), learned if head.pairs else ()).to_dict(),
        },
    )
    if then:
        then(model, features)
    return version, skipped


def _products_to_learn_from(rows: Sequence[ImageRow]) -> tuple[np.ndarray, list[str]]:
    """Which photos calibration may take for photos of one product.

    Photos of products that training sets aside each stand alone. Whoever had learned from them would know, when a
    trained version is compared with it, what the two are asked.

    Returns:
        ``(n,)`` numbers, the same for photos of one product; and the names of the products that have several.
    """
    groups = group_names({row.product_id for row in rows})
    names = [groups.get(row.product_id, product_name(row.product_id)) for row in rows]
    known = [side_of(name) == TRAINING for name in names]
    keys = [(row.product_id, None if seen else row.image_id) for row, seen in zip(rows, known, strict=True)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    counts = Counter(keys)
    learned = [name for name, key in zip(names, keys, strict=True) if counts[key] > 1]
    return np.array([numbers[key] for key in keys]), learned


def _require_usable(model: keras.Model, features: np.ndarray) -> None:
    """Refuse a model that makes no vectors of some photos' features, or nearly the same of all."""
    import keras

    from shop_similarity.training.networks.architectures import FEATURES
    from shop_similarity.training.networks.runner import extract

    some = np.unique(features[:SAMPLE], axis=0)
    vectors = extract(keras.Model(model.get_layer(FEATURES).output, model.output), some, SAMPLE)
    if len(unusable_rows(vectors)) or are_nearly_the_same(vectors):
        raise FirstVersionError(
            _(
                "The network makes no usable vectors of the shop's photos, or the same of all, so no version is "
                "stored: the pretrained weights are damaged. Name other ones with --weights."
            )
        )


def sample_rows(count: int, seed: int = recipe.SEED) -> list[ImageRow]:
    """At most ``count`` photos of the shop, see :func:`sample_by_product`."""
    catalogue = get_catalogue()
    return sample_by_product(catalogue.rows(catalogue.images(), streamed=True), count, seed)


def sample_by_product(
    rows: Iterable[ImageRow], count: int, seed: int, each: int = PHOTOS_PER_PRODUCT
) -> list[ImageRow]:
    """At most ``count`` photos of products of which each is as likely as any other, with up to ``each`` of its photos.

    Products and photos are drawn by the hash of their keys, so what is drawn changes little while a catalogue grows.
    The rows are read once, in whatever order they come, and no more than about ``count`` are kept in memory.

    Returns:
        Photos of one product stand next to each other.
    """

    def place(kind: str, key: Any) -> bytes:
        return hashlib.blake2b(f"{seed} {kind} {key}".encode(), digest_size=8).digest()

    # By product its place and its photos, each with its own; the heap has the product of the last place first.
    chosen: dict[Any, tuple[bytes, list[tuple[bytes, ImageRow]]]] = {}
    last: list[tuple[int, int, Any]] = []
    total, closed = 0, 1 << 64
    for number, row in enumerate(rows):
        if row.product_id not in chosen:
            turn = place("product", row.product_id)
            if int.from_bytes(turn) >= closed:
                continue
            chosen[row.product_id] = turn, []
            heapq.heappush(last, (-int.from_bytes(turn), number, row.product_id))
        photos = chosen[row.product_id][1]
        photos.append((place("photo", row.image_id), row))
        total += 1
        if len(photos) > each:
            photos.remove(max(photos, key=lambda photo: photo[0]))
            total -= 1
        while total - len(chosen[last[0][2]][1]) >= count:
            # There are enough photos of products before this one, so its others need not be looked at.
            closed = -last[0][0]
            total -= len(chosen.pop(heapq.heappop(last)[2])[1])
    products = sorted(chosen.values(), key=lambda product: product[0])
    return [row for _, photos in products for _, row in sorted(photos, key=lambda photo: photo[0])][:count]


def prepared_photos(
    rows: list[ImageRow], preprocessing: Preprocessing, skipped: list[Skipped], used: list[ImageRow] | None = None
) -> Iterator[np.ndarray]:
    """The rows' photos, ready for the model, in their order; decoded in threads ahead of the model.

    Args:
        rows: of the photos.
        preprocessing: of the model.
        skipped: gets those that can't be used.
        used: gets the others' rows.
    """
    settings = get_settings()
    storage = get_catalogue().storage
    limits = catalogue_limits()

    def prepare(row: ImageRow) -> np.ndarray | Skipped:
        try:
            with storage.open(row.file_name, "rb") as file:
                return preprocessing.prepare(open_image(file, limits, target_size=preprocessing.size))
        except ImageError as error:
            return Skipped(row.file_name, str(error))
        # One photo's exception is one photo's, whatever the storage raises.
        except Exception as error:
            return Skipped(row.file_name, final_sentence(error, row.file_name) or passing_sentence(error))

    results = ordered_map(prepare, rows, settings.decode_threads, 4 * settings.batch_size)
    for row, result in zip(rows, results, strict=True):
        if isinstance(result, Skipped):
            skipped.append(result)
            continue
        if used is not None:
            used.append(row)
        yield result
