"""Splitting similarities into aspects: made-up embeddings whose aspects are known, and drawings."""

from dataclasses import fields, replace

import numpy as np
import pytest

from shop_similarity.training.aspects.drawings import MEMBERS, PATTERNS, SHAPES, draw, families, family
from shop_similarity.training.aspects.forms import ASPECTS, AspectsError, LinearHead, depths, fit_aspects
from shop_similarity.training.networks.questions import Questions

DIM = 96
PER_ASPECT = 6


def turned(seed=0):
    """A rotation, for no network keeps an aspect to coordinates of its own."""
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((DIM, DIM)))[0]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def made_up(count, families_of, noise=0.05, seed=0):
    """Embeddings of photos and of families: colour, pattern, shape and setting move six directions each."""
    random = np.random.default_rng(seed)

    def level():
        return random.standard_normal(PER_ASPECT)

    def place(parts):
        inside = np.concatenate([*parts, noise * random.standard_normal(DIM - 4 * PER_ASPECT)])
        return inside + 0.1

    photos = [place([level() for _ in range(4)]) for _ in range(count)]
    drawn = []
    for _ in range(families_of):
        base = [level() for _ in range(4)]
        drawn.append(place(base))
        for changed in range(4):
            drawn.append(place([level() if part == changed else value for part, value in enumerate(base)]))
    return unit(np.array(photos) @ turned()), unit(np.array(drawn) @ turned())


def test_the_directions_of_each_aspect_are_found():
    photos, drawn = made_up(300, 60)
    found = fit_aspects(photos, drawn, rank=40)
    for place, form in enumerate(found.forms):
        for other in range(3):
            block = turned()[other * PER_ASPECT : (other + 1) * PER_ASPECT] @ found.directions
            seen = np.trace(block @ form @ block.T) / PER_ASPECT
            assert seen > 0.85 if other == place else seen < 0.1
    assert found.metrics["told_apart"] == pytest.approx(dict.fromkeys(ASPECTS, 1), abs=0.15)
    assert (found.metrics["photos"], found.metrics["drawings"], found.metrics["rank"]) == (300, 300, 40)


def test_the_forms_are_positive_and_add_up_to_the_identity():
    photos, drawn = made_up(100, 30)
    found = fit_aspects(photos, drawn)
    rank = found.directions.shape[1]
    assert np.allclose(found.forms.sum(axis=0), np.eye(rank), atol=1e-5)
    assert np.allclose(found.directions.T @ found.directions, np.eye(rank), atol=1e-5)
    for form in found.forms:
        assert np.allclose(form, form.T)
        assert np.linalg.eigvalsh(form).min() > -1e-5
    assert found.outside.sum() == pytest.approx(1)
    assert found.own.sum() == pytest.approx(1, abs=1e-4)


def test_what_is_typical_is_the_mean_over_pairs_of_photos():
    photos, drawn = made_up(200, 30)
    photos = unit(photos + 0.7 * turned()[2 * PER_ASPECT])
    found = fit_aspects(photos, drawn)
    inside = photos @ found.directions
    off = ~np.eye(len(photos), dtype=bool)
    for place, form in enumerate(found.forms):
        assert found.typical[place] == pytest.approx((inside @ form @ inside.T)[off].mean(), abs=0.02)
    # What all photos share is shape here.
    assert found.typical[2] > 3 * max(found.typical[:2])


def test_where_drawings_say_nothing_the_depths_of_the_network_do():
    """Directions that no drawing moves: their forms follow the taps that they come from."""
    random = np.random.default_rng(0)
    lengths = [16, 16, 16, 16, 16]
    kernel = turned()[:80]
    features = random.standard_normal((400, 80))
    raw = features @ kernel
    photos = unit(raw)
    # Within each tap the drawings move the first half.
    drawn = []
    moved = {1: [*range(8), *range(16, 24)], 2: [*range(32, 40), *range(48, 56)], 3: [*range(64, 72)]}
    for _ in range(60):
        base = np.zeros(80)
        base[[column for columns in moved.values() for column in columns]] = random.standard_normal(40)
        for member in range(5):
            row = base.copy()
            if member in moved:
                row[moved[member]] = random.standard_normal(len(moved[member]))
            drawn.append(row @ kernel)
    found = fit_aspects(photos, unit(np.array(drawn)), LinearHead(features, kernel, np.zeros(DIM), lengths, depths(5)))
    plain = fit_aspects(photos, unit(np.array(drawn)))
    for tap, aspect in enumerate(depths(5)):
        unmoved = kernel[16 * tap + 8 : 16 * tap + 16]
        with_taps, without = (
            np.trace(block @ fit.forms[aspect] @ block.T) / np.trace(block @ block.T)
            for fit in (found, plain)
            for block in [unmoved @ fit.directions]
        )
        assert with_taps > 0.8
        assert without == pytest.approx(1 / 3, abs=0.1)


def test_a_tap_of_colours_is_counted_as_colour():
    """A fourth tap that no drawing moves: what two photos share in it alone is colour, though it stands last."""
    random = np.random.default_rng(0)
    kernel = turned()[:64]
    features = random.standard_normal((400, 64))
    photos = unit(features @ kernel)
    drawn = []
    for _ in range(60):
        base = np.concatenate([random.standard_normal(48), np.zeros(16)])
        for member in range(5):
            row = base.copy()
            if member in (1, 2, 3):
                row[16 * member - 16 : 16 * member] = random.standard_normal(16)
            drawn.append(row @ kernel)

    def shares(aspects):
        """Shares of the cosine of two photos that agree in nothing but their histograms, and in nothing at all."""
        head = LinearHead(features, kernel, np.zeros(DIM), [16] * 4, aspects)
        found = fit_aspects(photos, unit(np.array(drawn)), head)
        one, other, another = random.standard_normal((3, 64))
        other[48:] = one[48:]
        left, right, far = (unit(row[None] @ kernel)[0] @ found.directions for row in (one, other, another))
        return [[left @ form @ right for form in found.forms], [left @ form @ far for form in found.forms]]

    agree, differ = shares([0, 1, 2, 0])
    assert agree[0] > max(agree[1:]) + 0.1
    assert agree[0] > differ[0] + 0.1
    by_depth, _ = shares(depths(4))
    assert by_depth[0] < agree[0] - 0.1


@pytest.mark.parametrize("is_search_by_photo", [False, True])
def test_colours_are_colour_in_embeddings_of_two_questions_whoever_asks(is_search_by_photo):
    """Two heads of three taps and a histogram, each part of one length; drawings move a tap and, by colour, it."""
    questions = Questions(1024, (0.65, 0.15, 0.2), (0.1, 0.7, 0.2))
    random = np.random.default_rng(0)
    parts = np.zeros((64, 1024))
    for part, rows in zip(questions.parts, (slice(0, 48), slice(0, 48), slice(48, 64)), strict=True):
        length = part.stop - part.start
        parts[rows, part] = np.linalg.qr(random.standard_normal((length, length)))[0][: rows.stop - rows.start]
    kernel = questions.lift(parts)

    def embedded(features):
        return questions.divided(features @ kernel, features @ kernel)

    features = random.standard_normal((400, 64))
    moved = [[*range(16), *range(48, 64)], [*range(16, 32)], [*range(32, 48)], []]
    bases = random.standard_normal((60, 64))
    drawn = np.repeat(bases, len(MEMBERS), axis=0)
    for member, columns in enumerate(moved, start=1):
        drawn[member :: len(MEMBERS), columns] = random.standard_normal((60, len(columns)))
    head = LinearHead(features, kernel, np.zeros(1024), [16] * 4, [0, 1, 2, 0], questions.divided)
    found = fit_aspects(embedded(features), embedded(drawn), head)
    one, other, another = random.standard_normal((3, 300, 64))
    other[:, 48:] = one[:, 48:]
    one, other, another = embedded(one), embedded(other), embedded(another)
    asked = questions.asked_by_photo(one) if is_search_by_photo else one

    def contributions(right):
        """Means over the pairs, by aspect."""
        left, right = asked @ found.directions, right @ found.directions
        return np.array([np.einsum("nr,nr->n", left @ form, right).mean() for form in found.forms])

    # Two that agree in their histograms alone: a share of .2 of colour, whoever asks, and nothing of another aspect.
    assert contributions(other) - contributions(another) == pytest.approx([0.2, 0, 0], abs=0.05)
    # Levels lie between these.
    assert contributions(one) == pytest.approx(found.own, abs=0.05)
    assert contributions(another) == pytest.approx(found.typical, abs=0.02)


def test_depths_of_a_network():
    assert depths(5) == [0, 0, 1, 1, 2]
    assert depths(3) == [0, 1, 2]
    assert depths(4) == [0, 0, 1, 2]


def test_a_model_that_tells_nothing_apart_is_refused():
    photos, _ = made_up(100, 8)
    noise = unit(np.random.default_rng(0).standard_normal((300, DIM)))
    with pytest.raises(AspectsError, match=r"does not tell colour, pattern and shape apart.*by chance 0\.33"):
        fit_aspects(photos, noise)
    # Black and white photographs: what differs in colour alone is the same.
    photos, drawn = made_up(300, 60)
    blind = drawn - (drawn @ turned()[:PER_ASPECT].T) @ turned()[:PER_ASPECT]
    with pytest.raises(AspectsError, match=r"colour 0\."):
        fit_aspects(photos, unit(blind))


def test_what_cannot_be_fitted_on_is_said():
    photos, drawn = made_up(100, 8)
    with pytest.raises(AspectsError, match=r"There are 3 photos; it takes 8"):
        fit_aspects(photos[:3], drawn)
    with pytest.raises(AspectsError, match=r"39 drawings are no 8 families of 5"):
        fit_aspects(photos, drawn[:39])
    photos[0, 0] = np.nan
    with pytest.raises(AspectsError, match="not finite"):
        fit_aspects(photos, drawn)
    photos, drawn = made_up(100, 8)
    with pytest.raises(AspectsError, match=r"add up to 7 numbers, the features have 9"):
        fit_aspects(photos, drawn, LinearHead(np.ones((100, 9)), np.ones((9, DIM)), np.zeros(DIM), [3, 4], [0, 1]))


def test_members_of_a_family_differ_in_one_thing():
    random = np.random.default_rng(0)
    things = {
        "colour": {"colour"},
        "pattern": {"pattern", "contrast", "scale", "angle"},
        "shape": {"shape", "stretch"},
        "setting": {"ground", "place", "size", "light"},
    }
    for _ in range(20):
        base, *others = family(random)
        for thing, other in zip(MEMBERS[1:], others, strict=True):
            differ = {field.name for field in fields(base) if getattr(base, field.name) != getattr(other, field.name)}
            assert differ
            assert differ <= things[thing]
            assert thing == "setting" or thing in differ


def test_drawings_are_the_same_for_the_same_seed_and_all_can_be_seen():
    one, again, other = (
        np.stack([np.asarray(picture) for pictures in families(12, 32, seed) for picture in pictures])
        for seed in (1, 1, 2)
    )
    assert one.shape == (60, 32, 32, 3)
    assert (one == again).all()
    assert (one != other).any(axis=(1, 2, 3)).all()
    base = family(np.random.default_rng(3))[0]
    seen = set()
    for shape in SHAPES:
        for pattern in PATTERNS:
            good = replace(base, shape=shape, pattern=pattern, colour=(180, 40, 40), scale=0.12, place=(0.5, 0.5))
            picture = np.asarray(draw(good, 48), int)
            # Something red stands before the ground.
            assert 0.02 < (picture[..., 0] - picture[..., 1] > 60).mean() < 0.7, (shape, pattern)
            seen.add(picture.tobytes())
    assert len(seen) == len(SHAPES) * len(PATTERNS)
