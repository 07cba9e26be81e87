"""Reading PyTorch's first checkpoint format without PyTorch.

Such a file is four pickles in a row (a magic number, a version, the machine's integers, the tensors by name with
references to their memory), a fifth with the order of the memory blocks, and the blocks themselves. PyTorch's own
reader runs whatever the pickles name; this one makes ordered dictionaries, strings and numbers only.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from shop_similarity.training.networks.backbones.sources import SourceError

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
_TYPES: dict[str, np.dtype[Any]] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Tensor(NamedTuple):
    key: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Storage(NamedTuple):
    key: str
    kind: str
    length: int


class TensorUnpickler(pickle.Unpickler):
    """An unpickler that can make ordered dictionaries and references to tensors, and nothing else."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module_name, global_name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _reference
        if module_name == "torch" and global_name in _TYPES:
            return global_name
        raise pickle.UnpicklingError(f"{module_name}.{global_name} has no place in a file of weights.")

    def persistent_load(self, pid: Any) -> _Storage:
        try:
            label, kind, key, _, length, view = pid
        except (TypeError, ValueError) as error:
            raise pickle.UnpicklingError("It refers to something that is no memory block.") from error
        if label != "storage" or kind not in _TYPES or view is not None:
            raise pickle.UnpicklingError("It refers to a memory block of an unknown kind.")
        storage = _Storage(key, kind, length)
        self.storages[key] = storage
        return storage


def _reference(storage: _Storage, offset: int, shape: tuple, strides: tuple, *rest: Any) -> _Tensor:
    return _Tensor(storage.key, offset, tuple(shape), tuple(strides))


def read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a ``.pth`` file by name, as numpy arrays in PyTorch's order of axes.

    Raises:
        SourceError: if it is not such a file, is cut off or names anything that is not a tensor.
    """
    try:
        with path.open("rb") as file:
            if TensorUnpickler(file).load() != MAGIC or TensorUnpickler(file).load() != VERSION:
                raise SourceError(f"{path.name} is not a checkpoint in PyTorch's first format.")
            machine = TensorUnpickler(file).load()
            unpickler = TensorUnpickler(file)
            tensors = unpickler.load()
            keys = TensorUnpickler(file).load()
            if not machine.get("little_endian"):
                raise SourceError(f"{path.name} was written on a big-endian machine, which is not read here.")
            blocks = {key: _block(file, unpickler.storages[key]) for key in keys}
            return {name: _array(tensor, blocks) for name, tensor in tensors.items()}
    except (pickle.UnpicklingError, EOFError, KeyError, AttributeError, TypeError, ValueError, OSError) as error:
        raise SourceError(
            f"{path.name} could not be read as a PyTorch checkpoint: {str(error).rstrip('.')}."
        ) from error


def _block(file: IO[bytes], storage: _Storage) -> np.ndarray:
    kind = _TYPES[storage.kind]
    (length,) = np.frombuffer(file.read(8), "<i8")
    content = file.read(int(storage.length) * kind.itemsize)
    if length != storage.length or len(content) != storage.length * kind.itemsize:
        raise ValueError("a memory block is cut off or of another length than announced")
    return np.frombuffer(content, kind)


def _array(tensor: _Tensor, blocks: dict[str, np.ndarray]) -> np.ndarray:
    block = blocks[tensor.key]
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if tensor.offset < 0 or min(tensor.strides, default=0) < 0 or last >= len(block):
        raise ValueError("a tensor reaches beyond its memory block")
    strides = [stride * block.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(block[tensor.offset :], tensor.shape, strides, writeable=False)
