"""Networks converted for OpenVINO: one file each, kept beside the copies of the weights.

A file is an archive of ``model.xml`` and ``model.bin``, uncompressed. It is named after all that the network is made of
and by which OpenVINO, so that it never has to be renewed, and written aside and renamed, so that two workers may
convert at once. Building a network and converting it takes ten seconds and TensorFlow; reading it takes neither.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shop_similarity.conf import get_settings
from shop_similarity.training.errors import TrainingError
from shop_similarity.training.extras import require
from shop_similarity.training.files import replacement
from shop_similarity.training.versions.weights_cache import default_weights_cache

if TYPE_CHECKING:
    import keras
    import openvino

    from shop_similarity.models import ModelVersion

logger = logging.getLogger(__name__)

# To be raised when other files would come out of the same version.
_FORM = 2
_XML, _BIN = "model.xml", "model.bin"


def converted(version: ModelVersion) -> openvino.Model:
    """A version's network in ``float32``, for photos ``(?, size, size, 3)`` of ``uint8``.

    Raises:
        TrainingError: the version's weights can't be used, TensorFlow is needed and missing, or the file can't be
            written.
    """
    silence()
    import openvino

    made_of = (version.weights_sha256, version.architecture, version.config, version.preprocessing)
    key = hashlib.sha256(json.dumps([_FORM, openvino.__version__, *made_of], sort_keys=True).encode()).hexdigest()
    path = default_weights_cache() / f"{version.weights_sha256[:16]}-{key[:32]}.openvino.zip"
    if _is_ours(path):
        try:
            return read_network(path)
        except (OSError, ValueError) as error:
            logger.warning("The converted network %s is damaged (%s), and made anew.", path, error)
    started = time.monotonic()
    # The converted one has its numbers in TensorFlow's memory: they go with the model that it was converted from.
    network, _model = _convert(version)
    try:
        with replacement(path, durable=False) as part:
            write_network(network, part)
    except OSError as error:
        raise TrainingError(
            f"The folder {path.parent} can't keep the converted network: {error}. Make it the worker's own, or name "
            "another one as WEIGHTS_CACHE."
        ) from error
    logger.info("Converted %s for OpenVINO in %.1f s.", version.name, time.monotonic() - started)
    return read_network(path)


def _is_ours(path: Path) -> bool:
    """Whether the file is there, and nobody else can have written it: what is in it is run."""
    try:
        status = path.lstat()
    except OSError:
        return False
    if os.name != "posix":
        return True
    if status.st_uid == os.getuid() and not status.st_mode & 0o022 and path.is_file() and not path.is_symlink():
        return True
    logger.warning("%s belongs to somebody else, or others may write to it: it is not read, and made anew.", path)
    return False


def _convert(version: ModelVersion) -> tuple[openvino.Model, keras.Model]:
    """The network, and the model without which its numbers are others."""
    require("tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import openvino
    import tensorflow as tf

    from shop_similarity.training.networks.precision import dtype_policy
    from shop_similarity.training.versions.loading import load_version

    with dtype_policy("float32"):
        model = load_version(version, cache_dir=get_settings().weights_cache)
    photos = tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8)
    function = tf.function(lambda batch: model(tf.cast(batch, tf.float32), training=False), input_signature=[photos])
    return openvino.convert_model(function.get_concrete_function()), model


def silence() -> None:
    """Have OpenVINO's tools tell nobody that they are used; to be called before they are imported.

    They report to their makers without asking, where the package of this name can be imported.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None keeps a module from being loaded


def write_network(model: openvino.Model, path: Path) -> None:
    """Write a network into one file.

    Raises:
        OSError: it can't be written.
    """
    import tempfile

    import openvino

    # OpenVINO writes by path alone, and two files. They lie where the one does, for there is room.
    with tempfile.TemporaryDirectory(prefix=".part-", dir=path.parent) as folder:
        xml = Path(folder) / _XML
        openvino.save_model(model, xml, compress_to_fp16=False)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name in (_XML, _BIN):
                # Without the time, so that the same network is the same file.
                with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
                    member.write((Path(folder) / name).read_bytes())


def read_network(file: Any) -> openvino.Model:
    """Read a network from a path or an open file; the archive's checksums are compared.

    Raises:
        OSError: it can't be read.
        ValueError: it is not what :func:`write_network` writes.
    """
    import openvino

    try:
        with zipfile.ZipFile(file) as archive:
            if [entry.filename for entry in archive.infolist()] != [_XML, _BIN] or any(
                entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()
            ):
                raise ValueError("it is no network")
            xml, weights = archive.read(_XML), archive.read(_BIN)
        return openvino.Core().read_model(xml, weights)
    except (zipfile.BadZipFile, KeyError, EOFError, RuntimeError, NotImplementedError) as error:
        raise ValueError(str(error)) from error
