"""Counts in messages."""


def counted(number: float, one: str, many: str = "") -> str:
    """Return a number with its noun: "1 step", "2 steps"; ``many`` is the plural if it is not ``one`` with an s."""
    shown = f"{number:g}" if isinstance(number, float) else number
    return f"{shown} {one if number == 1 else many or one + 's'}"


def counted_of_parts(images: int, parts: int, one: str) -> str:
    """Return a number of images with their noun, and that of the parts they show: "20 images of 4 parts".

    If each image shows another part, only the images are counted: "20 images".
    """
    return counted(images, one) + ("" if images == parts else f" of {counted(parts, 'part')}")
