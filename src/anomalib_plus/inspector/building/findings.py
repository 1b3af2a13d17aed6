"""Observations on the images, and the decisions of a build that follow from them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from anomalib_plus.counts import counted, counted_of_parts
from anomalib_plus.data.mask_pairs import shorten
from anomalib_plus.image_files import inspect_mask, printable
from anomalib_plus.inspector.building.splits import Splits
from anomalib_plus.inspector.building.survey import Survey
from anomalib_plus.post_processing.conformal_math import images_needed, smallest_rate

_VISIBLE = 3
"""Pixels of a network's input that a defect should cover in each direction."""
_COARSE = 4
"""Reduction of the images from which small defects are lost."""
_SAME_SHAPE = 1.05
"""Ratio of the largest and the smallest aspect ratio up to which images have one shape."""
_SHOWN = 5
_VALUES_OF_MASK = 2


@dataclass(frozen=True)
class Finding:
    """One observation and the decision that follows from it."""

    topic: str
    seen: str
    decided: str


def find(
    survey: Survey, splits: Splits, rate: float, image_size: tuple[int, int], tile: int | None = None
) -> list[Finding]:
    """Describe the images of good parts and the decisions on files, sizes, colours, groups and splits."""
    return [
        _files(survey),
        _size(survey, image_size, tile),
        _colours(survey),
        _groups(survey),
        _division(survey, splits),
        budget(len(splits.calibration), len({survey.groups[index] for index in splits.calibration}), rate),
    ]


def region(roi: Path) -> Finding:
    """Say how much of the image a region of interest leaves."""
    from anomalib_plus.post_processing.fixed_region import FixedRegion

    inside = FixedRegion(roi).read()
    greys = len(inspect_mask(roi).greys)
    soft = f" It has {greys} grey values: all but black counts." if greys > _VALUES_OF_MASK else ""
    share = f"{printable(roi)} leaves {100 * float(inside.float().mean()):.1f} % of the image"
    return Finding("Region", share, f"Only this part is inspected.{soft}")


def _files(survey: Survey) -> Finding:
    total = len(survey.images) + len(survey.unusable) + len(survey.copies)
    decided = [f"{len(survey.images)} are used"]
    folders = Counter(image.path.parent.relative_to(survey.folder).as_posix() for image in survey.images)
    if len(folders) > 1:
        listing = shorten([f"{name} ({count})" for name, count in folders.most_common()], _SHOWN)
        decided.append(f"they lie in {len(folders)} folders ({listing}), and all are taken for good parts")
    if survey.copies:
        copies = counted(len(survey.copies), "exact copy is", "exact copies are")
        decided.append(f"{copies} left out ({shorten([f'{a} = {b}' for a, b in survey.copies], _SHOWN)})")
    if survey.unusable:
        reasons = [f"{name} {reason}" for name, reason in survey.unusable]
        decided.append(f"{len(reasons)} cannot be used: {shorten(reasons, _SHOWN)}")
    return Finding("Files", f"{total} image files in {printable(survey.folder)}", "; ".join(decided) + ".")


def _size(survey: Survey, image_size: tuple[int, int], tile: int | None) -> Finding:
    (width, height), _ = survey.sizes.most_common(1)[0]
    listing = [f"{w}x{h} ({count})" for (w, h), count in survey.sizes.most_common()]
    rows, columns = image_size
    reduction = max(width / columns, height / rows)
    decided = f"The networks see {columns}x{rows} pixels"
    if tile is not None:
        decided += f" in tiles of {tile}x{tile}"
    warnings = _shapes(survey)
    if reduction <= 1:
        return Finding("Size", shorten(listing, _SHOWN), f"{decided}, no fewer than the images have.{warnings}")
    least = round(_VISIBLE * reduction)
    decided += (
        f", each as wide as {reduction:.1f} of the image: defects should be {least} pixels of the image or larger."
    )
    if reduction > _COARSE:
        decided += " For smaller ones, build with --tile 256 or a larger --image-size, and more minutes."
    return Finding("Size", shorten(listing, _SHOWN), decided + warnings)


def _shapes(survey: Survey) -> str:
    """Warn of images in which parts are stretched or turned differently."""
    shapes = [width / height for width, height in survey.sizes]
    turned = sum(image.is_turned for image in survey.images)
    stretched = (
        " The images differ in shape, and each is stretched to the same size: take all with one camera in one position."
    )
    by_exif = (
        f" {counted(turned, 'image is', 'images are')} marked as turned (EXIF), which viewers do and this command, "
        "like anomalib, does not: the pixels are used as the camera stored them."
    )
    return (stretched if max(shapes) > _SAME_SHAPE * min(shapes) else "") + (by_exif if turned else "")


def _colours(survey: Survey) -> Finding:
    if survey.is_grey:
        return Finding("Colours", "grey images", "The three channels that the networks take are equal.")
    grey = sum(image.is_grey for image in survey.images)
    if grey:
        grey_ones = counted(grey, f"of {len(survey.images)} images is", f"of {len(survey.images)} images are")
        seen = f"{grey_ones} grey, the others coloured"
        return Finding("Colours", seen, "All are used; if two cameras are mixed, build an inspector for each.")
    return Finding("Colours", "coloured images, 8 bits", "Colours are used.")


def _groups(survey: Survey) -> Finding:
    names = set(survey.groups)
    alone = len(names) == len(survey.groups)
    if alone:
        seen = "no images that would show one part"
    else:
        seen = f"{len(survey.groups)} images in {len(names)} groups, each of which may show one part"
    decided = " ".join(survey.remarks) or "Each image is taken for a part of its own; --group-by says otherwise."
    return Finding("Groups", seen, decided)


def _division(survey: Survey, splits: Splits) -> Finding:
    decided = (
        f"{len(splits.training)} train, {len(splits.selection)} select the model, {len(splits.calibration)} calibrate "
        "the threshold; no image is in two of these sets."
    )
    return Finding("Splits", f"{len(survey.images)} good images", decided)


def budget(images: int, parts: int, rate: float) -> Finding:
    """Say what false-alarm rate a number of calibration images of so many parts supports."""
    supported = smallest_rate(parts)
    calibration = counted_of_parts(images, parts, "calibration image")
    seen = f"{calibration} support a false-alarm rate of {100 * supported:.2g} % or more"
    if parts >= images_needed(rate):
        decided = f"The threshold is set for {100 * rate:.2g} %."
    else:
        needed = f"{images_needed(rate)} calibration images" + (" of different parts" if parts < images else "")
        decided = (
            f"{100 * rate:.2g} % were asked for, which takes {needed}. The threshold "
            f"is the highest score of the {images}: expect up to {100 * supported:.2g} % false alarms."
        )
    return Finding("False alarms", seen, decided)


def defects(bad: int) -> Finding:
    """Say by what the candidates are compared; ``bad`` is the number of images of bad parts."""
    if not bad:
        return Finding(
            "Defects",
            "no images of bad parts (--bad)",
            "Models are compared on synthetic defects: real ones may differ.",
        )
    few = " So few decide weakly: see the intervals." if bad < 10 else ""
    return Finding(
        "Defects",
        counted(bad, "image of a bad part", "images of bad parts"),
        f"Models are compared on them, so they are no longer a test of the finished inspector.{few}",
    )


def competition(labels: Sequence[str], left_out: Mapping[str, str]) -> Finding:
    """Say which candidates compete, and which are left out and why."""
    of_all = counted(len(labels) + len(left_out), "candidate")
    seen = f"{len(labels) or 'none'} of {of_all} can be trained here"
    absent = "; ".join(f"{label}: {reason}" for label, reason in left_out.items())
    sentences = [f"{', '.join(labels)}."] * bool(labels) + [f"Left out: {absent}."] * bool(absent)
    return Finding("Candidates", seen, " ".join(sentences))
