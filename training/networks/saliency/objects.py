"""From what stands out of a photo to the boxes of its objects, the largest first."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

Box = tuple[int, int, int, int]
"""Left, top, right and bottom edge in per cent of the photo."""

MOST = 3
"""No more boxes of a photo are of use to somebody who has to choose."""

# The mask is looked at in a grid of so many cells each way, in which the threads between two objects are torn.
_GRID = 80
# A cell belongs to an object from so much of the mask on.
_INSIDE = 0.5
# Smaller things are crumbs: parts of all cells, and of the largest object.
_LEAST_OF_PHOTO = 0.01
_LEAST_OF_LARGEST = 0.05
# What lies around an object, as a part of its sides, helps to recognise it, and the mask may be a little too small.
_MARGIN = 0.05
# Of two boxes, the smaller one says nothing new where so much of it lies within the larger.
_COVERED = 0.8
# A box of more of the photo than this is the photo.
_ALL = 0.9


@dataclass(frozen=True)
class _Object:
    mass: float
    edges: tuple[int, int, int, int]


def boxes_of(mask: np.ndarray) -> list[Box]:
    """The boxes of the objects of a photo.

    Args:
        mask: ``(n, n)``, 0 to 1, n divisible by 80; how much each pixel stands out.

    Returns:
        At most :data:`MOST`, the one that stands out most first; none where nothing does, or where the only one fills
        the photo.
    """
    side = len(mask) // _GRID
    cells = mask.reshape(_GRID, side, _GRID, side).mean(axis=(1, 3))
    objects = sorted(_objects(cells), key=lambda found: -found.mass)
    boxes: list[Box] = []
    for found in objects:
        if found.mass < max(_LEAST_OF_PHOTO * cells.size, _LEAST_OF_LARGEST * objects[0].mass):
            break
        box = _with_margin(found.edges)
        if all(_overlap(box, other) < _COVERED * _area(box) for other in boxes):
            boxes.append(box)
    if len(boxes) == 1 and _area(boxes[0]) > _ALL * 100 * 100:
        return []
    return boxes[:MOST]


def _objects(cells: np.ndarray) -> list[_Object]:
    """Cells that stand out and touch each other by their sides."""
    left = cells >= _INSIDE
    found = []
    for start in zip(*np.nonzero(left), strict=True):
        if not left[start]:
            continue
        left[start] = False
        rows, columns, mass = [], [], 0.0
        ahead = deque([start])
        while ahead:
            row, column = ahead.popleft()
            rows.append(row)
            columns.append(column)
            mass += float(cells[row, column])
            for near in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                if 0 <= near[0] < _GRID and 0 <= near[1] < _GRID and left[near]:
                    left[near] = False
                    ahead.append(near)
        edges = (int(min(columns)), int(min(rows)), int(max(columns)) + 1, int(max(rows)) + 1)
        found.append(_Object(mass, edges))
    return found


def _with_margin(edges: tuple[int, int, int, int]) -> Box:
    left, top, right, bottom = (edge * 100 / _GRID for edge in edges)
    across, down = _MARGIN * (right - left), _MARGIN * (bottom - top)
    return (
        max(0, int(left - across)),
        max(0, int(top - down)),
        min(100, int(np.ceil(right + across))),
        min(100, int(np.ceil(bottom + down))),
    )


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _overlap(one: Box, other: Box) -> int:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height)
