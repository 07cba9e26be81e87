"""The reference shop's settings for a measurement; SHOP_BENCH_SIMILARITY, a JSON object, changes keys of the plugin."""

import json
import os

from catalog.settings import *  # noqa: F403
from catalog.settings import SHOP_SIMILARITY

ROOT_URLCONF = "bench.shop_urls"
SHOP_SIMILARITY = SHOP_SIMILARITY | json.loads(os.environ.get("SHOP_BENCH_SIMILARITY") or "{}")
