"""Checks the photos of a CSV in a process that has opened none before: CSV FOLDER."""

import sys
from pathlib import Path

from django.conf import settings

if __name__ == "__main__":
    settings.configure()
    from shop_similarity.training.triplets.checks import load_triplets

    _, report = load_triplets(Path(sys.argv[1]), Path(sys.argv[2]))
    width, height = report.sizes[1]
    print(len(report.sizes), "photos,", width, "x", height)
