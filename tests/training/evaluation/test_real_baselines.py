"""The baselines on real photos: that they are as strong as they are known to be, since models are judged by them."""

from pathlib import Path

import pytest

from shop_similarity.training.evaluation.baselines import baselines
from shop_similarity.training.evaluation.retrieval_set import RetrievalSet
from shop_similarity.training.evaluation.validation import Validation
from shop_similarity.training.networks.backbones.weights import WeightsUnavailable

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "data" / "photos" / "retrieval_val"

pytestmark = [
    pytest.mark.long,
    pytest.mark.shared,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="the photos of ../shared/data are not here"),
]


# Least Recall@1, Recall@5 and mAP. Measured: .495 .612 .309, .631 .874 .476, .786 .922 .627, LITE2.
@pytest.mark.parametrize(
    ("name", "floor"),
    [
        ("colour", (0.46, 0.58, 0.28)),
        ("handmade", (0.60, 0.85, 0.46)),
        ("efficientnet_lite0", (0.76, 0.90, 0.61)),
        ("efficientnet_lite2", (0.80, 0.88, 0.63)),
    ],
)
def test_a_baseline_is_as_strong_as_it_was(request, name, floor):
    validation = Validation(RetrievalSet.read(FOLDER))
    baseline = baselines(request.config.cache.mkdir("backbones"))[name]
    try:
        vectors = baseline.embed(validation.paths)
    except WeightsUnavailable as error:
        pytest.skip(str(error))
    found = validation.evaluate(vectors, candidates=None).retrieval
    assert (found.queries, found.gallery) == (103, 644)
    for metric, least in zip(("recall_at_1", "recall_at_5", "mean_average_precision"), floor, strict=True):
        assert found.estimate(metric).value >= least, metric
