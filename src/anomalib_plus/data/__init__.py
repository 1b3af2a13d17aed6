"""Datamodules: aliases of anomalib's, the embedded demo and one-class MNIST."""

__all__: list[str] = []
