"""Lets a torchvision built for CUDA be imported beside a torch built for CPUs, from a .pth file of a test environment.

torchvision describes the gradients of two operators that only its CUDA library declares: they are declared here first.
"""

import importlib.abc
import importlib.machinery
import sys


class _Declare(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "torchvision":
            return None
        sys.meta_path.remove(self)
        import torch

        if torch.version.cuda is None:
            library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in ("nms", "qnms"):
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            sys.modules[__name__].library = library  # dropped with the last reference
        return importlib.machinery.PathFinder.find_spec(name, path, target)


sys.meta_path.insert(0, _Declare())
