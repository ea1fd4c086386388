"""Make torchvision importable beside a CPU build of torch.

torchvision's published wheels link against CUDA. Beside a CPU torch their operator library
cannot be loaded, and ``import torchvision`` then fails while it attaches fake kernels to
``torchvision::nms`` and ``torchvision::qnms``, because the operators were never declared.
Image processors need only torchvision's transforms, which use neither operator, so
declaring the two schemas is enough.

vLLM inspects model classes in subprocesses, so every Python process of the environment needs
this. ``python -m r1reward.engines.torchvision_repair`` copies this file into site-packages
with a ``.pth`` line that installs the import hook at interpreter start. The hook costs nothing
until torchvision is imported, and does nothing on a CUDA build of torch.

This file imports only the standard library at module level: it runs before everything else.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

HOOK_MODULE = "_r1reward_torchvision_repair"
SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class TorchvisionHook(importlib.abc.MetaPathFinder):
    """Declare the missing operators just before torchvision is found for the first time."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            declare_missing_operators()
        return None


def declare_missing_operators() -> None:
    import torch

    if torch.version.cuda is not None:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + SIGNATURE)
    # The declarations live as long as the library object, so it must outlive this call.
    declare_missing_operators.library = library  # type: ignore[attr-defined]


def install_hook() -> None:
    if not any(isinstance(finder, TorchvisionHook) for finder in sys.meta_path):
        sys.meta_path.insert(0, TorchvisionHook())


def install_into_environment() -> str:
    """Copy this file and its ``.pth`` line into the running interpreter's site-packages."""
    import sysconfig
    from pathlib import Path

    site = Path(sysconfig.get_paths()["purelib"])
    (site / f"{HOOK_MODULE}.py").write_text(
        Path(__file__).read_text(encoding="utf-8"), encoding="utf-8"
    )
    line = f"import {HOOK_MODULE}; {HOOK_MODULE}.install_hook()\n"
    (site / f"{HOOK_MODULE}.pth").write_text(line, encoding="utf-8")
    return str(site)


if __name__ == "__main__":
    print(f"torchvision import hook installed in {install_into_environment()}")
