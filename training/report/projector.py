"""Files for TensorBoard's embedding projector: the embeddings of some photos, with the photos as their points.

``tensorboard --logdir FOLDER`` shows them under "Projector". All paths in the files are relative, so that the folder
may be moved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from shop_similarity.photos.decoding import DEFAULT_LIMITS, ImageError, ImageLimits, open_image
from shop_similarity.training.files import private_folder, write_atomically

MAX_POINTS = 2_000
"""What a browser turns smoothly at 4096 dimensions; the page downloads 16 KiB a point."""

TENSOR = "embeddings"
RUN = "projector"
# WebGL of common devices holds textures of 8192 pixels a side.
_SPRITE_SIDE, _THUMBNAIL = 8192, 56
_MISSING = (222, 224, 227)


def write_projector(
    logdir: Path,
    embeddings: np.ndarray,
    paths: Sequence[Path],
    max_points: int = MAX_POINTS,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> int:
    """Write what the projector needs, in place of what was there.

    Args:
        logdir: the folder that ``tensorboard --logdir`` is given.
        embeddings: ``(n, d)``.
        paths: the ``n`` photos. One that can't be read becomes a grey point.
        max_points: more photos than that are thinned out evenly.
        limits: what a photo may be.

    Returns:
        How many points were written.

    Raises:
        ValueError: there is no photo, or lengths differ.
        OSError: a file can't be written.
    """
    # The projector reads tensors from checkpoints, which only TensorFlow writes.
    import tensorflow as tf

    if not len(paths) or len(embeddings) != len(paths):
        raise ValueError("The projector needs photos, and one embedding for every photo.")
    count = min(len(paths), max_points)
    chosen = np.linspace(0, len(paths) - 1, count).round().astype(int)
    folder = Path(logdir) / RUN
    private_folder(folder)
    config_file = folder / "projector_config.pbtxt"
    # While the parts are replaced there is no configuration, so that TensorBoard never joins old and new ones.
    config_file.unlink(missing_ok=True)
    tensor = tf.constant(np.asarray(embeddings, dtype=np.float32)[chosen])
    tf.raw_ops.SaveV2(
        prefix=str(folder / "embeddings.ckpt"), tensor_names=[TENSOR], shape_and_slices=[""], tensors=[tensor]
    )
    write_atomically(folder / "checkpoint", 'model_checkpoint_path: "embeddings.ckpt"\n')
    photos = [paths[place] for place in chosen]
    # Where there is one column, the projector takes the first line for a point.
    labels = "".join(" ".join(photo.name.split()) + "\n" for photo in photos)
    # What comes from a file system may hold half a character.
    write_atomically(folder / "metadata.tsv", labels.encode("utf-8", "backslashreplace"))
    side = _sprite(folder / "sprite.jpg", photos, limits)
    config = ProjectorConfig()
    points = config.embeddings.add(tensor_name=TENSOR, metadata_path="metadata.tsv")
    points.sprite.image_path = "sprite.jpg"
    points.sprite.single_image_dim.extend([side, side])
    write_atomically(config_file, text_format.MessageToString(config))
    # A folder is a run by its event file. This has to be a run of its own: TensorBoard looks for a run's checkpoint in
    # the folder above as well, so one beside the curves would show up for each of them.
    if not any(folder.glob("*tfevents*")):
        EventFileWriter(str(folder)).close()
    return count


def _sprite(path: Path, photos: Sequence[Path], limits: ImageLimits) -> int:
    """All photos in one square picture, row by row; returns the side of each."""
    per_side = math.ceil(math.sqrt(len(photos)))
    side = min(_THUMBNAIL, _SPRITE_SIDE // per_side)
    picture = Image.new("RGB", (per_side * side, per_side * side), (255, 255, 255))
    for place, photo in enumerate(photos):
        top, left = (part * side for part in divmod(place, per_side))
        try:
            thumbnail = open_image(photo, limits, target_size=side)
            thumbnail.thumbnail((side, side), Image.Resampling.BICUBIC)
        except (ImageError, OSError, ValueError):
            thumbnail = Image.new("RGB", (side, side), _MISSING)
        picture.paste(thumbnail, (left + (side - thumbnail.width) // 2, top + (side - thumbnail.height) // 2))
    picture.save(path, "JPEG", quality=85)
    return side
