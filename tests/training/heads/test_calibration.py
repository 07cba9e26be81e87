import numpy as np
import pytest

from shop_similarity.training.heads.calibration import (
    DRAWN,
    WITHIN,
    CalibrationError,
    around_their_mean,
    calibrate_head,
    effective_rank,
    fit_head,
    ledoit_wolf_intensity,
    orthonormal_lift,
    shrinkage_for,
    tap_weights,
    views_in_one_colour,
    within_share,
)
from shop_similarity.training.networks.architectures import full_config
from shop_similarity.training.networks.questions import HUES, Questions


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def product_features(n, d=200, seed=0, products=40):
    """Non-negative features with a large common part and a few strong directions, as pooled activations are."""
    generator = np.random.default_rng(seed)
    loadings = np.random.default_rng(99).standard_normal((60, d)) * np.linspace(2, 0.2, 60)[:, None]
    common = np.random.default_rng(98).uniform(1, 6, d)
    centres = generator.standard_normal((products, 60))
    chosen = generator.integers(0, products, n)
    latent = centres[chosen] + 0.35 * generator.standard_normal((n, 60))
    return np.maximum(common + latent @ loadings + 0.05 * generator.standard_normal((n, d)), 0), chosen


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_cosines_of_the_head_are_those_of_the_calibrated_features(strength):
    features, _ = product_features(300)
    head = fit_head(features, 1024, strength=strength, seed=3)
    centred = features - features.mean(axis=0)
    covariance = centred.T @ centred / len(features)
    covariance = (1 - head.shrinkage) * covariance + head.shrinkage * np.trace(covariance) / 200 * np.eye(200)
    values, vectors = np.linalg.eigh(covariance)
    whitened = unit(centred @ (vectors * values ** (-strength / 2)) @ vectors.T)
    embeddings = unit(features @ head.kernel.astype(np.float64) + head.bias)
    assert np.abs(embeddings @ embeddings.T - whitened @ whitened.T).max() < 1e-5


def test_full_whitening_without_shrinkage_levels_the_directions():
    features, _ = product_features(5000)
    head = fit_head(features, 256, strength=1.0, shrinkage=0.0)
    assert head.effective_rank_after == pytest.approx(200, rel=1e-3)
    embeddings = features @ head.kernel + head.bias
    assert np.allclose(embeddings.mean(axis=0), 0, atol=1e-5)


def test_shrinkage_is_strong_for_few_photos_and_weak_for_many():
    intensities = [fit_head(product_features(n)[0], 256).shrinkage for n in (5, 20, 100, 1000)]
    assert intensities == sorted(intensities, reverse=True)
    assert intensities[0] > 0.3
    assert intensities[-1] < 0.05


def test_ledoit_wolf_by_its_definition():
    generator = np.random.default_rng(5)
    centred = generator.standard_normal((12, 4)) * (3, 1, 1, 0.5)
    centred -= centred.mean(axis=0)
    covariance = centred.T @ centred / 12
    target = np.trace(covariance) / 4 * np.eye(4)
    distance = np.square(covariance - target).sum() / 4
    spread = sum(np.square(np.outer(row, row) - covariance).sum() / 4 for row in centred) / 12**2
    assert ledoit_wolf_intensity(centred) == pytest.approx(min(1, spread / distance))


def test_fewer_photos_than_numbers_are_not_believed_whatever_ledoit_and_wolf_say():
    centred = product_features(100)[0]
    centred -= centred.mean(axis=0)
    assert ledoit_wolf_intensity(centred) < 0.3
    assert shrinkage_for(centred) == pytest.approx(1 - 100 / 300)
    assert fit_head(product_features(100)[0], 256).shrinkage == shrinkage_for(centred)
    many = product_features(400)[0]
    many -= many.mean(axis=0)
    assert shrinkage_for(many) == ledoit_wolf_intensity(many)


def test_photos_unlike_those_that_a_small_shop_was_calibrated_on_are_still_told_apart():
    """A shop of front views; later photos also differ in how they were taken, in directions of their own."""
    random = np.random.default_rng(2)
    looks, ways = np.linalg.qr(random.standard_normal((160, 60)))[0].T.reshape(2, 30, 160)
    strength = np.linspace(2, 0.5, 30)

    def photos(products: np.ndarray, spread: float) -> np.ndarray:
        taken = spread * random.standard_normal((len(products), 30))
        rest = 0.05 * random.standard_normal((len(products), 160))
        return 10 + (products * strength) @ looks + taken @ ways + rest

    fronts = photos(random.standard_normal((80, 30)), 0.05)
    new = np.repeat(random.standard_normal((60, 30)), 2, axis=0)
    later = photos(new, 0.7)

    def finds_the_other_photo(shrinkage: float | None) -> float:
        head = fit_head(fronts, 256, shrinkage=shrinkage)
        rows = unit(later @ head.kernel + head.bias)
        similarities = rows @ rows.T
        np.fill_diagonal(similarities, -9)
        return float(np.mean(similarities.argmax(axis=1) // 2 == np.arange(120) // 2))

    believed = ledoit_wolf_intensity(fronts - fronts.mean(axis=0))
    assert finds_the_other_photo(None) > finds_the_other_photo(believed) + 0.1


@pytest.mark.parametrize("photos", [2, 3, 10, 54])
def test_a_head_of_few_photos_is_tame_on_photos_it_has_not_seen(photos):
    """With far fewer photos than features, new photos still find their own product about as well as raw cosines do."""
    sample, _ = product_features(photos, seed=1)
    features, products = product_features(400, seed=2)
    head = fit_head(sample, 256)
    embeddings = unit(features @ head.kernel.astype(np.float64) + head.bias)
    assert np.isfinite(embeddings).all()

    def nearest_is_same(rows):
        similarities = unit(rows) @ unit(rows).T
        np.fill_diagonal(similarities, -2)
        return np.mean(products[similarities.argmax(axis=1)] == products)

    assert nearest_is_same(embeddings) > nearest_is_same(features) - 0.1


@pytest.mark.parametrize("features", [np.ones((1, 50)), np.ones((9, 50)), np.zeros((3, 50))])
def test_photos_without_any_difference_leave_the_features_as_they_are(features):
    head = fit_head(features, 64)
    assert not head.bias.any()
    others = np.random.default_rng(0).uniform(0, 1, (20, 50))
    assert np.allclose(
        unit(others @ head.kernel) @ unit(others @ head.kernel).T, unit(others) @ unit(others).T, atol=1e-5
    )


def test_sign_codes_then_exact_cosine_find_what_an_exact_search_finds():
    features, _ = product_features(3000, products=300)
    head = fit_head(features, 4096)
    embeddings = unit(features @ head.kernel + head.bias)
    queries = embeddings[:100]
    similarities = queries @ embeddings.T
    exact = np.argsort(-similarities, axis=1)[:, :10]
    signs = np.where(embeddings > 0, 1.0, -1.0).astype(np.float32)
    candidates = np.argsort(-(signs[:100] @ signs.T), axis=1, kind="stable")[:, :100]
    found = [len(set(exact[q]) & set(candidates[q])) / 10 for q in range(100)]
    assert np.mean(found) > 0.99


def test_a_shorter_embedding_keeps_the_strongest_directions():
    features, _ = product_features(2000)
    head = fit_head(features, 80)
    assert head.kernel.shape == (200, 80)
    assert head.bias.shape == (80,)
    full = fit_head(features, 200)
    short = unit(features @ head.kernel + head.bias)
    long = unit(features @ full.kernel + full.bias)
    assert np.corrcoef((short @ short.T).ravel(), (long @ long.T).ravel())[0, 1] > 0.97


def test_the_lift_is_orthonormal_and_the_same_for_the_same_seed():
    lift = orthonormal_lift(30, 100, seed=4)
    assert np.allclose(lift @ lift.T, np.eye(30))
    assert np.array_equal(lift, orthonormal_lift(30, 100, seed=4))
    assert not np.allclose(lift, orthonormal_lift(30, 100, seed=5))
    with pytest.raises(CalibrationError, match="do not fit"):
        orthonormal_lift(101, 100)


@pytest.mark.parametrize("photos", [30, 600])
def test_the_head_does_not_hang_on_what_lapack_leaves_open(monkeypatch, photos):
    """The signs of the directions, and which ones stand for the equal variances of few photos."""
    features, _ = product_features(photos)
    head = fit_head(features, 256)
    eigh = np.linalg.eigh

    def other_machine(matrix):
        values, vectors = eigh(matrix)
        turn = np.diag(np.random.default_rng(0).choice([-1.0, 1.0], len(values)))
        equal = int((values < 1e-9 * values[-1]).sum())
        turn[:equal, :equal] = np.linalg.qr(np.random.default_rng(1).standard_normal((equal, equal)))[0]
        return values, vectors @ turn

    monkeypatch.setattr(np.linalg, "eigh", other_machine)
    other = fit_head(features, 256)
    assert np.allclose(head.kernel, other.kernel, atol=1e-5 * np.abs(head.kernel).max())
    assert np.allclose(head.bias, other.bias, atol=1e-4 * np.abs(head.bias).max())


def test_features_that_cannot_be_used_are_refused():
    with pytest.raises(CalibrationError, match="at least one photo"):
        fit_head(np.zeros((0, 50)))
    features = np.ones((4, 50))
    features[1, 1] = np.nan
    with pytest.raises(CalibrationError, match="finite"):
        fit_head(features)


def test_effective_rank():
    assert effective_rank(np.ones(7)) == pytest.approx(7)
    assert effective_rank(np.array([1.0, 0, 0])) == pytest.approx(1)


def _two_taps(n: int) -> np.ndarray:
    """A loud tap that says nothing of 8 kinds and a quiet one that does, each of 40 numbers."""
    random = np.random.default_rng(5)
    kinds = random.standard_normal((8, 40))
    quiet = 0.3 * kinds[np.arange(n) % 8] + 0.3 * random.standard_normal((n, 40))
    loud = random.standard_normal((n, 3)) @ random.standard_normal((3, 40))
    return np.concatenate([loud, quiet], axis=1)


def test_with_few_photos_a_tap_weighs_what_it_is_trusted_and_with_many_all_the_same():
    taps = [(40, 0.25), (40, 1.0)]
    few = tap_weights(np.random.default_rng(0).standard_normal((1, 80)), taps)
    assert np.allclose(few, [0.25] * 40 + [1.0] * 40, atol=0.01)
    assert tap_weights(_two_taps(60), taps)[0] == pytest.approx(0.25**0.5)
    assert tap_weights(_two_taps(60), taps, 0.0)[0] == 1
    many = tap_weights(_two_taps(5_000), taps)
    assert 0.97 < many[0] < many[-1] == 1


def test_weights_of_taps_are_part_of_the_linear_head():
    features = _two_taps(30)
    taps = [(40, 0.25), (40, 1.0)]
    head = fit_head(features, 256, taps=taps)
    weighted = fit_head(features * tap_weights(features, taps), 256)
    outputs = features @ head.kernel + head.bias
    assert np.allclose(outputs, (features * tap_weights(features, taps)) @ weighted.kernel + weighted.bias, atol=1e-4)


def test_trust_finds_the_quiet_tap_where_photos_are_few():
    features = _two_taps(24)

    def same_kind(taps) -> float:
        head = fit_head(features, 256, taps=taps)
        rows = features @ head.kernel + head.bias
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        similarities = rows @ rows.T
        np.fill_diagonal(similarities, -9)
        return float(np.mean(similarities.argmax(axis=1) % 8 == np.arange(24) % 8))

    assert same_kind([(40, 0.1), (40, 1.0)]) > same_kind(None)


def test_taps_that_do_not_add_up_are_refused():
    with pytest.raises(CalibrationError, match="add up to 79"):
        fit_head(_two_taps(10), 256, taps=[(39, 1.0), (40, 1.0)])


SMALL_LITE = {"backbone": "efficientnet_lite0", "width": 0.1, "embedding_dim": 256, "tap_power": 0.8}


@pytest.mark.parametrize("options", [{"width": 0.125, "embedding_dim": 256}, SMALL_LITE])
def test_a_model_s_head_is_set_from_its_features(options):
    import keras

    from shop_similarity.training.networks.architectures import HEAD, build, feature_model
    from shop_similarity.training.networks.preprocessing import Preprocessing

    keras.utils.set_random_seed(0)
    model = build("mildnet", options, Preprocessing(size=32))
    photos = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    features = feature_model(model)(photos).numpy()
    last = "top" if "backbone" in options else "block5_pool"
    head = calibrate_head(model, features, options, strength=0.5, seed=3, tap_trust={last: 0.5})
    kernel, bias = model.get_layer(HEAD).get_weights()
    assert np.array_equal(kernel, head.kernel)
    assert np.array_equal(bias, head.bias)
    lengths = list(full_config("mildnet", options).tap_lengths.values())
    taps = [(length, 1.0) for length in lengths[:-1]] + [(lengths[-1], 0.5)]
    assert np.array_equal(kernel, fit_head(features, 256, 0.5, seed=3, taps=taps).kernel)
    embeddings = model(photos).numpy()
    # Centred on these photos, where joined taps of unit length have cosines near 1.
    assert np.abs((features @ kernel + bias).mean(axis=0)).max() < 1e-4
    assert np.linalg.norm(embeddings.mean(axis=0)) < 0.5
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert np.linalg.norm(unit.mean(axis=0)) > 0.9


@pytest.mark.parametrize("options", [{"hidden": [8]}, {"shallow": True}, {"activation": "relu"}])
def test_only_a_linear_head_can_be_calibrated(options):
    from shop_similarity.training.networks.architectures import FEATURES, build
    from shop_similarity.training.networks.preprocessing import Preprocessing

    options = {"width": 0.0625, "embedding_dim": 64} | options
    model = build("mildnet", options, Preprocessing(size=32))
    with pytest.raises(CalibrationError, match="linear map"):
        calibrate_head(model, np.ones((3, model.get_layer(FEATURES).output.shape[-1])), options)


def test_features_of_another_model_are_refused():
    from shop_similarity.training.networks.architectures import build
    from shop_similarity.training.networks.preprocessing import Preprocessing

    options = {"width": 0.0625, "embedding_dim": 64}
    model = build("mildnet", options, Preprocessing(size=32))
    with pytest.raises(CalibrationError, match="the features have 91"):
        calibrate_head(model, np.ones((3, 91)), options)
    with pytest.raises(CalibrationError, match="do not belong together"):
        calibrate_head(model, np.ones((3, 92)), SMALL_LITE)


def taken_in_many_ways(products: int, each: int, seed: int = 0, d: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Photos whose strongest directions tell how they were taken, and which product each shows."""
    random = np.random.default_rng(seed)
    ways = np.linalg.qr(np.random.default_rng(1).standard_normal((d, d)))[0]
    shows = np.repeat(np.arange(products), each)
    looks = random.standard_normal((products, 30))[shows] @ ways[:30]
    taken = 2 * random.standard_normal((len(shows), 12)) @ ways[30:42]
    return 5 + looks + taken + 0.05 * random.standard_normal((len(shows), d)), shows


def finds_its_product(head, features, shows) -> float:
    rows = unit(features @ head.kernel.astype(np.float64) + head.bias)
    similarities = rows @ rows.T
    np.fill_diagonal(similarities, -9)
    return float(np.mean(shows[similarities.argmax(axis=1)] == shows))


def test_views_of_one_product_tell_what_to_overlook():
    features, views = taken_in_many_ways(60, 3)
    later, shows = taken_in_many_ways(80, 2, seed=7)
    learned, unlabelled = fit_head(features, 256, views=views), fit_head(features, 256)
    assert finds_its_product(learned, later, shows) > finds_its_product(unlabelled, later, shows) + 0.1
    assert learned.pairs == 120
    assert learned.within == within_share(120)
    assert learned.shrinkage >= DRAWN * learned.within / WITHIN
    assert (unlabelled.pairs, unlabelled.within) == (0, 0)


def test_without_a_second_view_the_head_is_that_of_unlabelled_photos():
    features, _ = product_features(120)
    alone = fit_head(features, 256, views=np.arange(120))
    unlabelled = fit_head(features, 256)
    assert np.array_equal(alone.kernel, unlabelled.kernel)
    assert alone.figures() == unlabelled.figures()


def test_the_share_of_views_grows_with_their_pairs_and_starts_at_none():
    shares = [within_share(pairs) for pairs in (0, 1, 5, 20, 80, 10_000)]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[1] < 0.05
    assert WITHIN * 0.95 < shares[-1] < WITHIN


@pytest.mark.parametrize("products", [1, 2, 5, 10])
def test_few_views_do_no_harm(products):
    """A handful of pairs says nearly nothing about so many directions, whatever it says."""
    features, shows = taken_in_many_ways(100, 1)
    more, views = taken_in_many_ways(products, 2, seed=3)
    views = np.concatenate([shows, 100 + views])
    features = np.concatenate([features, more])
    later, shows = taken_in_many_ways(80, 2, seed=7)
    learned, unlabelled = fit_head(features, 256, views=views), fit_head(features, 256)
    assert finds_its_product(learned, later, shows) > finds_its_product(unlabelled, later, shows) - 0.02


def test_photos_around_the_mean_of_their_product():
    features = np.arange(14.0).reshape(7, 2) ** 2
    around, pairs = around_their_mean(features, np.array([4, 1, 4, 9, 1, 4, 7]))
    assert pairs == 3
    for photos in ([1, 4], [0, 2, 5]):
        assert any(
            np.allclose(around[start : start + len(photos)], features[photos] - features[photos].mean(axis=0))
            for start in range(len(around))
        )
    assert len(around) == 5


def test_the_same_photo_twice_is_no_pair():
    features, _ = product_features(30)
    twice = np.concatenate([features, features])
    assert around_their_mean(twice, np.tile(np.arange(30), 2))[1] == 0
    head = fit_head(twice, 256, views=np.tile(np.arange(30), 2))
    assert np.array_equal(head.kernel, fit_head(twice, 256).kernel)


def test_views_are_of_one_colour_where_histograms_agree():
    red, dark_red, blue = np.eye(3)[0], unit(np.array([[1.0, 0.6, 0]]))[0], np.eye(3)[2]
    between = unit((red + dark_red)[None])[0]
    histograms = np.array([red, blue, dark_red, red, blue, between, blue])
    views = views_in_one_colour(np.array([0, 0, 0, 1, 1, 2, 2]), histograms)
    # The second product's photos are as those of the first, and stay apart from them.
    assert len(set(views)) == 6
    assert views[0] == views[2]
    assert views[0] != views[3]
    # Along a chain: red and dark red would not do alone.
    chained = views_in_one_colour(np.zeros(3, int), np.array([red, dark_red, between]), 0.95)
    assert len(set(chained)) == 1
    assert len(set(views_in_one_colour(np.zeros(2, int), np.array([red, dark_red]), 0.95))) == 2


def with_histograms(n: int, length: int = 30, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    histograms = np.sqrt(random.dirichlet(np.full(length, 0.2), n))
    return np.concatenate([product_features(n, d=50, seed=seed)[0], histograms], axis=1)


@pytest.mark.parametrize("share", [0.03, 0.25])
@pytest.mark.parametrize("photos", [2, 40, 500])
def test_colours_have_their_share_of_the_energy(share, photos):
    features = with_histograms(photos)
    head = fit_head(features, 256, colour=(30, share))
    rows = features @ head.kernel.astype(np.float64) + head.bias
    colours = (features[:, 50:] - features[:, 50:].mean(axis=0)) @ head.kernel[50:]
    assert np.square(colours).sum() / np.square(rows).sum() == pytest.approx(share, rel=1e-3)
    assert head.colour == share
    # Deep features and colours lie across each other, so that a cosine is the sum of what both say.
    assert np.abs(head.kernel[:50] @ head.kernel[50:].T).max() < 1e-5 * np.abs(head.kernel).max()


@pytest.mark.parametrize("d", [50, 700])
def test_an_embedding_of_two_questions_has_three_parts_with_their_shares(d):
    generator = np.random.default_rng(0)
    histograms = np.sqrt(generator.dirichlet(np.full(HUES, 0.2), 300))
    features = np.concatenate([product_features(300, d=d)[0], histograms], axis=1)
    questions = Questions.of({"colour": 0.2, "instance": 0.3, "embedding_dim": 1024})
    head = fit_head(features, 1024, colour=(HUES, 0.2), questions=questions)
    rows = questions.in_parts(features @ head.kernel.astype(np.float64) + head.bias)
    energies = [np.square(rows[:, part]).sum() / np.square(rows).sum() for part in questions.parts]
    assert energies == pytest.approx([0.5, 0.3, 0.2], rel=1e-2)
    assert np.abs(rows.mean(axis=0)).max() < 1e-3
    # Both begin alike, and as the one of an embedding that answers one question, as far as there is room.
    look, instance = (unit(rows[:, part]) for part in questions.parts[:2])
    assert np.allclose(look, instance, atol=1e-4)
    whole = fit_head(features[:, :d], 1024)
    one = unit(features[:, :d] @ whole.kernel + whole.bias)
    assert np.corrcoef((look @ look.T).ravel(), (one @ one.T).ravel())[0, 1] > 0.99


@pytest.mark.parametrize("photos", [np.tile(with_histograms(1), (9, 1)), with_histograms(1)])
def test_colours_without_any_difference_are_tame(photos):
    head = fit_head(photos, 256, colour=(30, 0.03))
    rows = with_histograms(20, seed=4) @ head.kernel + head.bias
    assert np.isfinite(rows).all()
    assert np.linalg.norm(rows, axis=1).min() > 0


def test_a_short_embedding_has_room_for_the_strongest_of_both():
    features = with_histograms(300)
    short = fit_head(features, 40, colour=(30, 0.3))
    assert short.kernel.shape == (80, 40)
    full = fit_head(features, 80, colour=(30, 0.3))
    near, exact = (unit(features @ head.kernel + head.bias) for head in (short, full))
    assert np.corrcoef((near @ near.T).ravel(), (exact @ exact.T).ravel())[0, 1] > 0.9


def test_a_model_with_colours_learns_from_the_views_of_its_products():
    import keras

    from shop_similarity.training.networks.architectures import HEAD, build, feature_model
    from shop_similarity.training.networks.preprocessing import Preprocessing
    from tests.shop_similarity.drawn_photos import product_image

    keras.utils.set_random_seed(0)
    options = {"width": 0.125, "embedding_dim": 1024, "colour": 0.1}
    model = build("mildnet", options, Preprocessing(size=48))
    drawn = [(kind, colour, seed) for kind in ("mug", "shirt", "lamp") for colour in ("red", "blue") for seed in (0, 1)]
    photos = np.stack(
        [np.asarray(product_image(kind, colour, "plain", (48, 48), seed=seed)) for kind, colour, seed in drawn]
    )
    features = feature_model(model)(photos).numpy()
    # One product in two colours, each seen twice.
    head = calibrate_head(model, features, options, products=np.repeat(np.arange(3), 4))
    assert head.pairs == 6
    assert head.colour == 0.1
    kernel, bias = model.get_layer(HEAD).get_weights()
    assert np.array_equal(kernel, head.kernel)
    assert np.array_equal(bias, head.bias)
    assert np.allclose(model(photos).numpy(), unit(features @ kernel + bias), atol=1e-5)
    # Without the tap nothing tells in which colour a photo is, and pairs of any colour would teach to overlook it.
    options |= {"colour": 0}
    model = build("mildnet", options, Preprocessing(size=48))
    assert (
        calibrate_head(model, feature_model(model)(photos).numpy(), options, products=np.repeat(np.arange(3), 4)).pairs
        == 0
    )
