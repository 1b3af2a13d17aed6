"""Windows and counts that a paper gives for images of one size, scaled to the size of the images at run time."""

from typing import NamedTuple


class PaperSize(NamedTuple):
    """Pixels, as a paper gives them for images of one size; the same share of any other image.

    Height and width are scaled by themselves. The size of a network's images is a plain number when it is exported, so
    that exported files hold the scaled windows.
    """

    pixels: float
    image_size: int
    """Side of the paper's square images."""

    def at(self, length: int) -> float:
        """Scale to a side of ``length`` pixels; exactly ``pixels`` at the paper's size."""
        return self.pixels * length / self.image_size


def pixels_at(size: float | PaperSize, length: int) -> float:
    """Scale the size of a paper to a side of ``length`` pixels; a plain number is taken as it is."""
    return size.at(length) if isinstance(size, PaperSize) else size


def odd_pixels_at(size: int | PaperSize, length: int) -> int:
    """Scale as above, to the nearest odd number of pixels; a plain number is taken as it is."""
    return 2 * round((size.at(length) - 1) / 2) + 1 if isinstance(size, PaperSize) else size


def whole_pixels_at(size: int | PaperSize, length: int) -> int:
    """Scale as above, to the nearest whole number of pixels from 1 on; a plain number is taken as it is."""
    return max(1, round(size.at(length))) if isinstance(size, PaperSize) else size
