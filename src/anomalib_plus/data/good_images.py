"""Good images below a folder."""

from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from anomalib_plus.image_files import is_hidden


def find_good_images(folder: Path) -> list[Path]:
    """List the images of a folder, in order; in a category in MVTec layout, its good training images.

    Hidden files and folders are left out.

    Raises:
        FileNotFoundError: If the folder does not exist or has no image.
    """
    if not folder.is_dir():
        msg = f"There is no folder {folder}: give a folder of images or of a category."
        raise FileNotFoundError(msg)
    good = folder / "train" / "good"
    searched = good if good.is_dir() else folder
    found = (path for path in searched.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS)
    paths = sorted(path for path in found if not is_hidden(path, searched))
    if not paths:
        msg = f"There is no image ({', '.join(IMG_EXTENSIONS)}) in {searched}: give a folder with images."
        raise FileNotFoundError(msg)
    return paths
