"""Good images below a folder."""

from pathlib import Path

from anomalib_plus.image_files import IMAGE_SUFFIXES, find_image_files


def find_good_images(folder: Path) -> list[Path]:
    """List the images of a folder, in order; in a category in MVTec layout, its good training images.

    Hidden files and folders are left out. Photographs in formats that are not read are listed too, so that the reader's
    check of each file names them.

    Raises:
        FileNotFoundError: If the folder does not exist or has no image.
    """
    if not folder.is_dir():
        msg = f"There is no folder {folder}: give a folder of images or of a category."
        raise FileNotFoundError(msg)
    good = folder / "train" / "good"
    searched = good if good.is_dir() else folder
    paths = sorted(find_image_files(searched))
    if not paths:
        msg = f"There is no image ({', '.join(IMAGE_SUFFIXES)}) in {searched}: give a folder with images."
        raise FileNotFoundError(msg)
    return paths
