"""Explanations and leaned queries, with a basis whose aspects are known."""

import hashlib
import io
import logging
import pickle

import numpy as np
import pytest
from django.utils.translation import override

from shop_similarity.models import AspectBasis, ModelVersion
from shop_similarity.search import aspects
from shop_similarity.search.aspects import (
    ASPECTS,
    Basis,
    BasisError,
    Explanation,
    explain,
    has_aspects,
    lean_vectors,
    store_basis,
)
from tests.shop_similarity.factories import make_version
from tests.vectors import DIM, random_vectors

PER_ASPECT = 4
RANK = 3 * PER_ASPECT


def known_basis(seed=0, **changed):
    """Four directions of the embedding for each aspect."""
    directions = np.linalg.qr(np.random.default_rng(seed).standard_normal((DIM, RANK)))[0].astype(np.float32)
    forms = np.stack([np.diag(np.repeat(np.eye(3)[place], PER_ASPECT)) for place in range(3)]).astype(np.float32)
    third = np.full(3, 1 / 3, np.float32)
    return Basis(
        **{"directions": directions, "forms": forms, "outside": third, "typical": 0 * third, "own": third} | changed
    )


def photo(basis, colour, pattern, shape):
    """An embedding of which each aspect is one of four."""
    inside = np.zeros(RANK, np.float32)
    inside[[colour, PER_ASPECT + pattern, 2 * PER_ASPECT + shape]] = 1 / np.sqrt(3)
    return basis.directions @ inside


@pytest.fixture
def basis():
    return known_basis()


@pytest.fixture
def version(db, basis):
    version = make_version()
    store_basis(version, basis, {"photos": 12})
    return version


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch):
    monkeypatch.setattr(aspects, "_loaded", type(aspects._loaded)())


def test_contributions_add_up_to_the_cosine_whatever_the_vectors(version, basis):
    vectors = random_vectors(40, clusters=5, seed=1)
    vectors[:10] += 0.3 * photo(basis, 0, 1, 2)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = explain(version, vectors[:1], vectors)
    for explanation, vector in zip(found, vectors, strict=True):
        assert explanation.similarity == pytest.approx(float(vector @ vectors[0]), abs=1e-5)
        assert sum(explanation.contributions().values()) == pytest.approx(explanation.similarity, abs=1e-6)
    assert found[0].similarity == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ((0, 3, 3), "Similar mainly in colour"),
        ((3, 1, 3), "Similar mainly in pattern"),
        ((3, 3, 2), "Similar mainly in shape"),
        ((0, 1, 2), "Similar in colour, pattern and shape alike"),
        ((3, 3, 3), "Similar only a little, and in nothing in particular"),
    ],
)
def test_what_two_photos_share_is_said(version, basis, other, sentence):
    (found,) = explain(version, photo(basis, 0, 1, 2)[None], photo(basis, *other)[None])
    assert found.sentence() == sentence
    for place, aspect in enumerate(ASPECTS):
        shared = other[place] == (0, 1, 2)[place]
        assert getattr(found, aspect) == pytest.approx(1 / 3 if shared else 0, abs=1e-3)


def test_the_photo_that_is_most_similar_is_explained(version, basis):
    asked = np.stack([photo(basis, 0, 0, 0), photo(basis, 1, 1, 1)])
    first, second = explain(version, asked, np.stack([photo(basis, 1, 1, 3), photo(basis, 0, 3, 3)]))
    assert first.similarity == pytest.approx(2 / 3, abs=1e-3)
    assert first.shape == pytest.approx(0, abs=1e-3)
    assert second.colour == pytest.approx(1 / 3, abs=1e-3)


def test_what_a_scaled_similarity_is_made_of_adds_up_to_it(version, basis):
    vectors = random_vectors(5, clusters=2, seed=4)
    plain, scaled = explain(version, vectors[:1], vectors), explain(version, vectors[:1], vectors, scale=1.8)
    for one, other in zip(plain, scaled, strict=True):
        assert other.similarity == pytest.approx(1.8 * one.similarity, abs=1e-5)
        assert other.levels == pytest.approx(tuple(1.8 * level for level in one.levels), abs=1e-4)


def test_what_is_typical_is_no_reason(db):
    """All photos of this shop have about the same shape: the largest contribution, and no reason."""
    typical = np.array([0, 0, 0.5], np.float32)
    version = make_version()
    basis = known_basis(typical=typical, own=np.array([0.2, 0.2, 0.6], np.float32))
    store_basis(version, basis)
    inside = np.zeros((2, RANK), np.float32)
    inside[:, 2 * PER_ASPECT] = np.sqrt(0.5)
    inside[:, 0] = np.sqrt(0.3)
    inside[[0, 1], [5, 6]] = np.sqrt(0.2)
    (found,) = explain(version, inside[:1] @ basis.directions.T, inside[1:] @ basis.directions.T)
    assert found.shape == max(found.contributions().values())
    assert found.shares() == pytest.approx({"colour": 1, "pattern": 0, "shape": 0}, abs=1e-2)
    assert found.sentence() == "Similar mainly in colour"


def test_a_second_aspect_is_named_when_it_is_close_behind():
    assert Explanation(0.2, 0.0, 0.3, 0.5, (0.5, 0.0, 0.8)).sentence() == "Similar mainly in shape, then in colour"
    assert Explanation(0.2, 0.0, 0.3, 0.5, (0.3, 0.0, 0.8)).sentence() == "Similar mainly in shape"
    assert Explanation(0.1, 0.3, 0.2, 0.6).sentence() == "Similar mainly in pattern, then in shape"
    with override("de"):
        assert isinstance(Explanation(0.1, 0.3, 0.2, 0.6).sentence(), str)


def test_shares_are_parts_of_one():
    assert Explanation(0.2, -0.1, 0.3, 0.4, (0.5, -0.2, 1.5)).shares() == {"colour": 0.25, "pattern": 0, "shape": 0.75}
    assert set(Explanation(-0.2, -0.1, -0.3, -0.6).shares().values()) == {0}


@pytest.mark.parametrize("aspect", ASPECTS)
def test_a_leaned_query_ranks_by_the_cosine_and_the_contribution(version, basis, aspect):
    rows = np.stack([photo(basis, a, b, c) for a in range(3) for b in range(3) for c in range(3)])
    rows = rows + 0.3 * random_vectors(len(rows), seed=2)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    query = rows[:1]
    leaned = lean_vectors(version, query, aspect, 2.0)
    assert leaned.dtype == np.float32
    assert np.linalg.norm(leaned) == pytest.approx(1, abs=1e-5)
    cosines = rows @ query[0]
    form = basis.forms[ASPECTS.index(aspect)]
    added = (rows @ basis.directions) @ form @ (basis.directions.T @ query[0])
    expected = cosines + 2 * added
    scores = rows @ leaned[0]
    assert np.allclose(scores * (expected[0] / scores[0]), expected, atol=2e-3)
    # All that share the aspect come before all others.
    place = ASPECTS.index(aspect)
    shares = np.array([(a, b, c)[place] == 0 for a in range(3) for b in range(3) for c in range(3)])
    assert scores[shares].min() > scores[~shares].max()
    assert cosines[shares].min() < cosines[~shares].max()


def test_wrong_wishes_are_sentences(version):
    vectors = random_vectors(2)
    assert np.allclose(lean_vectors(version, vectors, "shape", 0), vectors, atol=1e-6)
    with pytest.raises(ValueError, match=r"'smell' is no aspect\. Known: colour, pattern, shape"):
        lean_vectors(version, vectors, "smell", 1)
    for strength in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="0 or more"):
            lean_vectors(version, vectors, "shape", strength)
    with pytest.raises(ValueError, match=r"vectors has the shape \(4096,\)"):
        lean_vectors(version, vectors[0], "shape", 1)
    with pytest.raises(ValueError, match=r"query_vectors has the shape \(2, 10\)"):
        explain(version, vectors[:, :10], vectors)
    assert explain(version, vectors, vectors[:0]) == []
    assert explain(version, vectors[:0], vectors) == [None, None]


def test_a_version_without_a_basis_explains_nothing_and_leans_nowhere(db, django_assert_num_queries):
    version = make_version()
    vectors = random_vectors(3)
    with django_assert_num_queries(1):
        assert not has_aspects(version)
        assert explain(version, vectors[:1], vectors) == [None] * 3
        assert np.allclose(lean_vectors(version, vectors, "shape", 2), vectors, atol=1e-6)


def test_matrices_are_read_once_a_process_and_anew_when_they_are_replaced(version, django_assert_num_queries):
    vectors = random_vectors(2)
    first = ModelVersion.objects.get(pk=version.pk)
    with django_assert_num_queries(2):
        before = explain(first, vectors, vectors)
    with django_assert_num_queries(0):
        explain(first, vectors, vectors)
        lean_vectors(first, vectors, "colour", 1)
    again = ModelVersion.objects.get(pk=version.pk)
    with django_assert_num_queries(1):
        assert explain(again, vectors, vectors) == before
    store_basis(version, known_basis(seed=7))
    assert AspectBasis.objects.count() == 1
    assert explain(ModelVersion.objects.get(pk=version.pk), vectors, vectors) != before


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def arrays_of(basis):
    return {name: getattr(basis, name) for name in ("directions", "forms", "outside", "typical", "own")} | {"format": 1}


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("unpickled",)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data, basis: b"",
        lambda data, basis: b"no matrices",
        lambda data, basis: data[:-100],
        lambda data, basis: data[:3000] + bytes([data[3000] ^ 255]) + data[3001:],
        lambda data, basis: pickle.dumps(Bomb()),
        lambda data, basis: npz(**arrays_of(basis) | {"own": np.array([Bomb()], object)}),
        lambda data, basis: npz(**arrays_of(basis) | {"format": 2}),
        lambda data, basis: npz(directions=basis.directions),
        lambda data, basis: npz(**arrays_of(basis) | {"forms": 2 * basis.forms}),
        lambda data, basis: npz(**arrays_of(basis) | {"forms": basis.forms[:, :5, :5]}),
        lambda data, basis: npz(**arrays_of(basis) | {"typical": np.full(3, np.nan)}),
    ],
)
def test_damaged_matrices_are_logged_once_and_break_no_page(version, basis, caplog, damage):
    stored = AspectBasis.objects.get()
    data = damage(bytes(stored.data), basis)
    AspectBasis.objects.update(data=data, sha256=hashlib.sha256(data).hexdigest())
    vectors = random_vectors(2)
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            fresh = ModelVersion.objects.get(pk=version.pk)
            assert explain(fresh, vectors, vectors) == [None, None]
            assert not has_aspects(fresh)
    (line,) = caplog.messages
    assert "drawn can't be explained" in line
    assert "manage.py fit_aspects drawn" in line


def test_matrices_that_were_exchanged_are_not_used(version, caplog):
    AspectBasis.objects.update(data=known_basis(seed=3).to_bytes())
    assert not has_aspects(ModelVersion.objects.get(pk=version.pk))
    assert "sha256 differs" in caplog.text


def test_matrices_that_contradict_themselves_are_refused(basis):
    skewed = basis.forms.copy()
    skewed[0, 0, 1] += 0.5
    skewed[1, 0, 1] -= 0.5
    for changed, words in (
        ({"forms": skewed}, "symmetric"),
        ({"outside": np.ones(3, np.float32)}, "add up to 1"),
        ({"own": np.zeros(3, np.float32)}, "themselves"),
        ({"directions": basis.directions[:100]}, "shape"),
    ):
        with pytest.raises(BasisError, match=words):
            known_basis(**changed)
