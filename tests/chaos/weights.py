"""``python -m tests.chaos.weights FOLDER``: weights of the two small networks, ``one`` and ``two``."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.chaos.world import CONFIG, SIZE


def main(folder: Path) -> None:
    import keras

    from shop_similarity.training.networks.architectures import build
    from shop_similarity.training.networks.preprocessing import Preprocessing

    for seed, name in enumerate(("one", "two"), 7):
        keras.utils.set_random_seed(seed)
        build("mildnet", CONFIG, Preprocessing(size=SIZE)).save_weights(folder / f"{name}.weights.h5")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
