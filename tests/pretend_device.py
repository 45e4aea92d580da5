"""A device "pretend" that stands for a GPU: its tensors say that they are there, and lie in the memory of the CPU.

What a GPU refuses is refused: operations on tensors of both devices, and NumPy's view of a tensor there. Numbers are
those of the CPU, so results can be compared with those of `device="cpu"` to the bit. Kernels are not tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"
aten: Any = torch.ops.aten
MOVES = {aten._to_copy.default, aten.copy_.default}
"""Read one device and write to another."""
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
"""Take positions that lie on the CPU for a table that does not."""


class OnDevice(Tensor):
    """A tensor that says that it is on the device; `held` has its numbers."""

    held: Tensor
    __torch_function__: Any = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        make: Any = Tensor._make_wrapper_subclass  # pyright: ignore[reportAttributeAccessIssue]
        layout = held.shape, held.stride(), held.storage_offset()
        made: OnDevice = make(cls, *layout, dtype=held.dtype, device=torch.device(NAME, 0))
        made.held = held
        return made

    def __repr__(self, **_: Any) -> str:
        return f"OnDevice({self.held!r})"

    def new_tensor(self, data: Any, dtype: Any = None, **_: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return torch.tensor(data, dtype=dtype or self.dtype, device=self.device)

    def tolist(self) -> Any:
        return self.held.tolist()

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> OnDevice:
        return OnDevice(inner["held"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class Pretend(TorchDispatchMode):
    """Makes new tensors on the device that is asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class CpuGenerator(torch.Generator):
    """Says that it is on a device; draws on the CPU."""

    asked: torch.device

    def __new__(cls, device: torch.device | str = "cpu") -> CpuGenerator:
        made = super().__new__(cls)
        made.asked = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.asked


def computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operation gives, on the device where it would be.

    Raises:
        RuntimeError: its tensors are on two devices. A number (a tensor without dimensions) may be on the CPU.
    """
    given = tree_leaves((args, kwargs))
    tensors = [each for each in given if isinstance(each, Tensor)]
    there = any(isinstance(each, OnDevice) for each in tensors)
    if func in MOVES:
        there = isinstance(args[0], OnDevice)
    elif there:
        must = tensors if func not in INDEXED or not isinstance(args[0], OnDevice) else args[2:3]
        wrong = [each for each in must if not isinstance(each, OnDevice) and each.ndim]
        if wrong:
            raise RuntimeError(f"{func}: a tensor of shape {tuple(wrong[0].shape)} is on the CPU, another one is not")
    if kwargs.get("device") is not None:
        there = torch.device(kwargs["device"]).type == NAME
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args, kwargs = tree_map(lambda each: each.held if isinstance(each, OnDevice) else each, (args, kwargs))
    result = func(*args, **kwargs)
    if func._schema.is_mutable:  # gives back what it was given
        written = {id(each.held): each for each in tensors if isinstance(each, OnDevice)}
        return tree_map(lambda each: written.get(id(each), each), result)
    return tree_map(lambda each: OnDevice(each) if isinstance(each, Tensor) else each, result) if there else result


@contextmanager
def pretended() -> Iterator[None]:
    """Meanwhile `device="pretend"` works."""
    replaced = {name: getattr(torch, name) for name in ("Generator", "tensor", "as_tensor", "matmul")}

    def made(name: str) -> Any:  # copies to a device without asking the mode
        def make(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
            found = data if isinstance(data, OnDevice) else replaced[name](data, dtype=dtype)
            return found if device is None else found.to(device)

        return make

    def matmul(one: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:  # looks for overlaps in memory
        found = replaced["matmul"](one, other)
        return found if out is None else out.copy_(found)

    torch.Generator, torch.matmul = CpuGenerator, matmul
    torch.tensor, torch.as_tensor = made("tensor"), made("as_tensor")
    try:
        with Pretend():
            yield
    finally:
        for name, each in replaced.items():
            setattr(torch, name, each)


_setup_privateuseone_for_python_backend(NAME)  # for good, and before the first gradient: in a process of its own
