"""Which photos stand in which batch, and which pairs of a batch may be pushed apart."""

import numpy as np
import pytest

from shop_similarity.training.learning.relations import NEGATIVES, Belonging, Relations
from shop_similarity.training.learning.sampling import InstanceSampler, Passes, TripletSampler, Views, categories_of

ROWS = np.random.default_rng(0).permuted(np.tile(np.arange(30), (50, 1)), axis=1)[:, :3]


def same(one, other):
    return all(
        np.array_equal(a.photos, b.photos) and np.array_equal(a.views, b.views) and np.array_equal(a.rows, b.rows)
        for a, b in zip(one, other, strict=True)
    )


def triplets_of(batches):
    return [tuple(batch.photos[row]) for batch in batches for row in batch.rows]


def relations(**options):
    """0-1-2 are a chain of positives, 3-4 a pair, 5 is alone and named as unlike 2; 0 and 6 show one product."""
    return Relations(
        7,
        np.array([[0, 1], [1, 2], [4, 3]]),
        np.array([[5, 2], [0, 2]]),
        components=np.array([0, 0, 0, 1, 1, 2, 3]),
        belonging=Belonging(np.array([0, 1, 2, 3, 4, 5, 0]), np.zeros((0, 2), dtype=int)),
        **options,
    )


def pairs(mask):
    return {tuple(pair) for pair in np.argwhere(mask).tolist() if pair[0] < pair[1]}


def test_an_epoch_holds_every_triplet_once_and_follows_from_seed_and_number():
    sampler = TripletSampler(ROWS, 8, seed=3)
    first = sampler.epoch(1)
    assert [len(batch) for batch in first] == [8] * 6 + [2]
    assert sorted(triplets_of(first)) == sorted(map(tuple, ROWS.tolist()))
    assert same(first, TripletSampler(ROWS, 8, seed=3).epoch(1))
    assert triplets_of(first) != triplets_of(sampler.epoch(2))
    assert triplets_of(first) != triplets_of(TripletSampler(ROWS, 8, seed=4).epoch(1))
    for batch in first:
        assert len(set(batch.photos.tolist())) == len(batch.photos)
        assert not batch.views.any()


def test_an_epoch_of_few_triplets_goes_through_them_several_times_in_other_orders():
    single = TripletSampler(ROWS, 8, seed=3)
    sampler = Passes(single, 20)
    epochs = [sampler.epoch(number) for number in (1, 2)]
    # Seven batches a pass, and so three of them.
    assert [len(batches) for batches in epochs] == [21, 21]
    passes = [batches[start : start + 7] for batches in epochs for start in (0, 7, 14)]
    for batches in passes:
        assert sorted(triplets_of(batches)) == sorted(map(tuple, ROWS.tolist()))
    assert len({tuple(triplets_of(batches)) for batches in passes}) == 6
    assert same(epochs[1], Passes(TripletSampler(ROWS, 8, seed=3), 20).epoch(2))
    for enough in (1, 7):
        assert same(Passes(single, enough).epoch(2), single.epoch(2))


def test_views_are_drawn_and_twins_differ():
    batches = TripletSampler(ROWS, 8, views=Views(3)).epoch(1)
    assert {view for batch in batches for view in batch.views.tolist()} == {0, 1, 2, 3}
    batches = TripletSampler(ROWS, 8, views=Views(3, twins=True)).epoch(1)
    for batch in batches:
        half = len(batch.photos) // 2
        assert np.array_equal(batch.photos[:half], batch.photos[half:])
        assert (batch.views[:half] != batch.views[half:]).all()
    with pytest.raises(ValueError, match="two different views"):
        Views(0, twins=True)


def test_old_triplets_are_in_every_batch_and_all_of_them_come_in_turn():
    old = np.arange(100, 121).reshape(7, 3)
    sampler = TripletSampler(ROWS, 8, seed=1, old=old, share=0.25)
    seen = []
    for epoch in (0, 1, 2):
        batches = sampler.epoch(epoch)
        assert sorted(t for t in triplets_of(batches) if t[0] < 100) == sorted(map(tuple, ROWS.tolist()))
        for batch in batches:
            assert sum(batch.photos[row[0]] >= 100 for row in batch.rows) == 2
        seen += [t for t in triplets_of(batches) if t[0] >= 100]
        assert same(batches, TripletSampler(ROWS, 8, seed=1, old=old, share=0.25).epoch(epoch))
    # Without a gap, through all seven and over again.
    for start in range(0, len(seen) - 6, 7):
        assert len(set(seen[start : start + 7])) == 7


def test_batches_by_instance_hold_p_times_k_photos_of_one_category():
    pairs_ = np.concatenate([[[first, first + step] for step in (1, 2, 3)] for first in range(0, 80, 4)])
    groups = np.arange(80) // 4
    categories = groups % 2
    sampler = InstanceSampler(Relations(80, pairs_), groups, 4, 3, seed=2, categories=categories)
    batches = sampler.epoch(1)
    assert same(batches, sampler.epoch(1))
    assert not same(batches, sampler.epoch(2)[: len(batches)])
    known = Relations(80, pairs_)
    full = 0
    for batch in batches:
        by_group = np.bincount(groups[batch.photos])
        full += (by_group > 0).sum() == 4 and by_group.max() <= 3
        for query, positive, negative in batch.photos[batch.rows]:
            assert positive in known.positives_of(query)
            assert groups[negative] != groups[query]
    assert full >= len(batches) - 1
    one_category = sum(len(set(categories[batch.photos])) == 1 for batch in batches)
    assert one_category >= len(batches) - 1
    assert {photo for number in range(20) for batch in sampler.epoch(number) for photo in batch.photos} == set(
        range(80)
    )


def test_batches_by_instance_need_instances():
    with pytest.raises(ValueError, match="fewer than two instances"):
        InstanceSampler(Relations(4, np.array([[0, 1]])), np.array([0, 0, 1, 2]), 4, 2)
    with pytest.raises(ValueError, match="two photos of each"):
        InstanceSampler(Relations(4, np.array([[0, 1], [2, 3]])), np.array([0, 0, 1, 1]), 4, 1)


def test_categories_are_rebuilt_from_triplets():
    rows = np.array([[0, 1, 2], [3, 4, 5], [0, 1, 4]])
    found = categories_of(7, rows, np.array([True, True, False]))
    assert found[0] == found[1] == found[2]
    assert found[3] == found[4] == found[5]
    assert len({found[0], found[3], found[6]}) == 3


def test_masks_are_symmetric_and_apart():
    for negatives in NEGATIVES:
        positive, negative = relations(negatives=negatives).masks(np.arange(7))
        assert pairs(positive) == {(0, 1), (1, 2), (3, 4)}
        for mask in (positive, negative):
            assert np.array_equal(mask, mask.T)
            assert not mask.diagonal().any()
        assert not (positive & negative).any()
        # They show the same product, whatever no triplet says.
        assert not negative[0, 6]


def test_what_may_be_pushed_apart():
    everything = {(one, other) for one in range(7) for other in range(one + 1, 7)}
    photos = np.arange(7)
    free = everything - {(0, 1), (1, 2), (3, 4), (0, 6)}
    assert pairs(relations(negatives="batch").masks(photos)[1]) == free
    # 0 and 2 are of one component, but named as unlike.
    assert pairs(relations(negatives="components").masks(photos)[1]) == free
    chain = np.array([[0, 1], [1, 2], [2, 3]])
    components = np.array([0, 0, 0, 0, 1])
    for negatives, expected in (
        ("batch", {(0, 2), (0, 3), (1, 3)}),
        ("neighbours", {(0, 3)}),
        ("components", set()),
    ):
        found = Relations(5, chain, components=components, negatives=negatives).masks(np.arange(5))[1]
        assert pairs(found) == expected | {(0, 4), (1, 4), (2, 4), (3, 4)}
    # Named as unlike, they are pushed apart although they share a positive.
    named = Relations(5, chain, np.array([[3, 1]]), components=components)
    assert pairs(named.masks(np.arange(4))[1]) == {(0, 3), (1, 3)}
    assert pairs(relations(negatives="explicit").masks(photos)[1]) == {(2, 5), (0, 2)}


def test_photos_of_a_group_are_pushed_apart_only_where_that_is_said():
    """0 to 5 are photos of one style, 0 and 1 of one product; 6 and 7 are others, 7 of a group that 5 is of as well."""
    groups = np.array([[photo, 0] for photo in range(6)] + [[5, 1], [7, 1]])
    belonging = Belonging(np.array([0, 0, 1, 2, 3, 4, 5, 6]), groups)
    named = np.array([[2, 3], [0, 1]])
    for negatives in NEGATIVES:
        found = Relations(8, np.array([[0, 2]]), named, np.arange(8), belonging, negatives)
        positive, negative = found.masks(np.arange(8))
        assert pairs(positive) == {(0, 2)}
        # 0 and 1 are one product, though a triplet says otherwise.
        free = {(place, 6) for place in range(6)} | {(place, 7) for place in range(5)} | {(6, 7)}
        assert pairs(negative) == ({(2, 3)} if negatives == "explicit" else free | {(2, 3)})


def test_masks_follow_the_photos_of_the_batch():
    positive, negative = relations().masks(np.array([4, 0, 3, 1]))
    assert pairs(positive) == {(0, 2), (1, 3)}
    assert pairs(negative) == {(0, 1), (0, 3), (1, 2), (2, 3)}


def test_views_of_a_photo_are_never_negatives_and_share_its_pairs():
    photos = np.array([0, 1, 0, 1])
    positive, negative = relations().masks(photos)
    assert pairs(positive) == {(0, 1), (0, 3), (1, 2), (2, 3)}
    assert not negative.any()
    positive, negative = relations(twins=True).masks(photos)
    assert pairs(positive) == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}
    assert not negative.any() and not positive.diagonal().any()


def test_look_alikes_are_no_instances_and_photos_of_a_product_are_though_no_triplet_pairs_them():
    pairs_ = np.array([[0, 1], [0, 3]])
    belonging = Belonging(np.array([0, 1, 0, 2, 3]), np.zeros((0, 2), int))
    found = Relations(5, pairs_, belonging=belonging, instance_pairs=pairs_[:1])
    photos = np.array([3, 0, 1, 2, 0])
    assert pairs(found.instances(photos)) == {(1, 2), (1, 3), (2, 4), (3, 4)}
    positive, negative = found.masks(photos)
    assert positive[0, 1] and not (found.instances(photos) & negative).any()
    # Views of one photo are where they are twins.
    assert Relations(5, pairs_, twins=True).instances(photos)[1, 4]
