"""A backbone of 32 pixels and an eighth of the filters, with seeded weights, in the place of VGG16."""

from collections.abc import Callable
from dataclasses import replace

from shop_similarity.training.heads import recipe
from shop_similarity.training.networks.backbones import weights
from shop_similarity.training.networks.preprocessing import Preprocessing
from tests.training.versions.test_first_version import SmallBackbone

SMALL = ("--config", "width=0.125", "--config", "embedding_dim=4096")


def use_small_network(set_attribute: Callable, set_item: Callable) -> None:
    """Have the commands train it, given what ``monkeypatch`` has or its like for good."""
    set_attribute(weights, "find_weights", lambda *args, **kwargs: SmallBackbone())
    for name in ("mildnet", "mildnet-joined"):
        set_item(recipe.RECIPES, name, replace(recipe.RECIPES[name], preprocessing=Preprocessing(size=32)))
    # It is built in a fraction of the time that the default's many layers take.
    set_attribute(recipe, "DEFAULT", "mildnet")
    # Validation shows other things than training here, and is to profit all the same.
    set_attribute(recipe, "GUARD", 0)
