"""Datamodules (aliases of anomalib's, a demo, one-class MNIST), a dataset for prediction, and checks of image files."""

from anomalib_plus.data.aliases import BTAD, MVTec
from anomalib_plus.data.demo_surfaces import DemoSurfaces
from anomalib_plus.data.one_class_mnist import OneClassMNIST
from anomalib_plus.data.predict_images import PredictImages

__all__ = ["BTAD", "DemoSurfaces", "MVTec", "OneClassMNIST", "PredictImages"]
