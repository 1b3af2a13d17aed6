"""Datamodules: aliases of anomalib's, the embedded demo and one-class MNIST."""

from anomalib_plus.data.aliases import BTAD, MVTec
from anomalib_plus.data.demo_surfaces import DemoSurfaces
from anomalib_plus.data.one_class_mnist import OneClassMNIST

__all__ = ["BTAD", "DemoSurfaces", "MVTec", "OneClassMNIST"]
