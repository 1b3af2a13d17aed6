"""Draw the architectures of the models: docs/images/MODEL_architecture.svg.

python docs/examples/architecture_figures.py docs/images
"""
# ruff: noqa: RUF001

import sys
from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Literal, NamedTuple
from xml.sax.saxutils import escape

Column = Literal["left", "middle", "right"]
Kind = Literal["data", "trained", "frozen", "fixed", "loss", "result"]
Use = Literal["both", "training", "prediction"]
Point = tuple[float, float]

WIDTH = 600
COLUMNS: dict[Column, tuple[int, int]] = {"left": (10, 162), "middle": (190, 220), "right": (428, 160)}  # x and width
LANES = {"left": 181, "right": 419, "middle": 446, "outer": 594}
LINE, PADDING, GAP = 19, 8, 26
STYLES: dict[Kind, tuple[str, str, str]] = {  # fill, stroke, meaning
    "data": ("#ffffff", "#4b5563", "image"),
    "trained": ("#d6e6fb", "#1d5fb0", "trained"),
    "frozen": ("#dcdfe4", "#4b5563", "frozen"),
    "fixed": ("#fdf3cd", "#a16207", "without weights"),
    "loss": ("#fbdada", "#b91c1c", "loss"),
    "result": ("#d5f2dc", "#15803d", "anomaly map"),
}
USES: dict[Use, tuple[str, str]] = {  # colour, meaning
    "both": ("#1f2937", "in both"),
    "training": ("#b91c1c", "dashed: training only"),
    "prediction": ("#15803d", "prediction only"),
}
DASHED = ' stroke-dasharray="6 4"'
BOLD, CENTRED = ' font-weight="bold"', ' text-anchor="middle"'


class Box(NamedTuple):
    """A box whose lines are separated by ``|``; the first is bold and begins with the name of a part of the network.

    Boxes of the middle column stand below each other, others ``beside`` one of them. Dashed: used in training only.
    """

    kind: Kind
    content: str
    column: Column = "middle"
    beside: str = ""
    dashed: bool = False
    other_name: str = ""

    @property
    def lines(self) -> list[str]:
        return self.content.split("|")

    @property
    def part(self) -> str:
        return self.content.split("|")[0].split(" ")[0]

    @property
    def name(self) -> str:
        return self.other_name or self.part

    @property
    def height(self) -> int:
        return LINE * len(self.lines) + 2 * PADDING


class Arrow(NamedTuple):
    """An arrow between sides of two boxes; ``shifts`` move its ends along the sides."""

    start: str
    end: str
    use: Use = "both"
    sides: tuple[str, str] = ("bottom", "top")
    shifts: tuple[int, int] = (0, 0)
    lane: str = ""  # where the vertical part is, if both sides face sideways


class Figure(NamedTuple):
    """Boxes from top to bottom, with headings between them, and arrows."""

    boxes: Sequence[Box | str]
    arrows: Sequence[Arrow]


def upper_edges(figure: Figure) -> dict[str, float]:
    """Stack headings and boxes of the middle column, and centre the others on theirs."""
    tops: dict[str, float] = {}
    centres: dict[str, float] = {}
    y = 10
    for item in figure.boxes:
        if isinstance(item, str):
            tops[item] = y
            y += LINE + GAP
        elif item.beside:
            tops[item.name] = centres[item.beside] - item.height / 2
        else:
            tops[item.name], centres[item.name] = y, y + item.height / 2
            y += item.height + GAP
    return tops


def corners(arrow: Arrow, boxes: dict[str, Box], tops: dict[str, float]) -> list[Point]:
    """Return the points of an arrow."""
    ends = []
    for name, side, shift in zip(arrow[:2], arrow.sides, arrow.shifts, strict=True):
        (x, width), height = COLUMNS[boxes[name].column], boxes[name].height
        if side in {"top", "bottom"}:
            ends.append((x + width / 2 + shift, tops[name] + height * (side == "bottom")))
        else:
            ends.append((x + width * (side == "right"), tops[name] + height / 2 + shift))
    first, last = ends
    if arrow.lane:
        return [first, (LANES[arrow.lane], first[1]), (LANES[arrow.lane], last[1]), last]
    starts_sideways, ends_sideways = (side in {"left", "right"} for side in arrow.sides)
    corner = (last[0], first[1]) if starts_sideways else (first[0], last[1])
    return [first, last] if starts_sideways == ends_sideways else [first, corner, last]


def rectangle(x: float, y: float, size: tuple[float, float], kind: Kind, dashed: bool = False) -> str:
    fill, stroke, _ = STYLES[kind]
    place = f'x="{x:g}" y="{y:g}" width="{size[0]:g}" height="{size[1]:g}" rx="6"'
    return f'<rect {place} fill="{fill}" stroke="{stroke}" stroke-width="1.6"{DASHED * dashed}/>'


def line(points: Iterable[Point], use: Use) -> str:
    places = " ".join(f"{x:g},{y:g}" for x, y in points)
    look = f'fill="none" stroke="{USES[use][0]}" stroke-width="1.8"{DASHED * (use == "training")}'
    return f'<polyline points="{places}" {look} marker-end="url(#{use})"/>'


def text(x: float, y: float, content: str, style: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}"{style}>{escape(content)}</text>'


def draw_box(box: Box, y: float) -> list[str]:
    x, width = COLUMNS[box.column]
    lines = [
        text(x + width / 2, y + PADDING + LINE * (number + 0.75), content, CENTRED + BOLD * (number == 0))
        for number, content in enumerate(box.lines)
    ]
    return [rectangle(x, y, (width, box.height), box.kind, box.dashed), *lines]


def legend(kinds: set[Kind], y: float) -> list[str]:
    """Explain the colours of these boxes, and the arrows, from ``y`` downwards, three in a row."""
    entries = [(rectangle(0, 0, (24, 15), kind), STYLES[kind][2]) for kind in STYLES if kind in kinds]
    entries += [(line([(0, 8), (24, 8)], use), meaning) for use, (_, meaning) in USES.items()]
    return [
        f'<g transform="translate({14 + 200 * (number % 3)} {y + 26 * (number // 3):g})">'
        f"{shape}{text(34, 12.5, meaning)}</g>"
        for number, (shape, meaning) in enumerate(entries)
    ]


def draw(figure: Figure, title: str) -> str:
    """Return the picture as SVG."""
    boxes = {box.name: box for box in figure.boxes if isinstance(box, Box)}
    tops = upper_edges(figure)
    bottom = max(tops[name] + box.height for name, box in boxes.items()) + 24
    kinds = {box.kind for box in boxes.values()}
    height = bottom + 26 * -(-(len(kinds) + len(USES)) // 3)
    heads = [
        f'<marker id="{use}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="5.5" markerHeight="5.5" orient="auto">'
        f'<path d="M0,0 L10,5 L0,10 z" fill="{colour}"/></marker>'
        for use, (colour, _) in USES.items()
    ]
    shapes = [
        f"<title>{title}</title>",
        *heads,
        f'<rect width="{WIDTH}" height="{height:g}" rx="8" fill="#ffffff"/>',
        *(text(12, tops[item] + 14, item, BOLD) for item in figure.boxes if isinstance(item, str)),
        *(line(corners(arrow, boxes, tops), arrow.use) for arrow in figure.arrows),
        *chain.from_iterable(draw_box(box, tops[name]) for name, box in boxes.items()),
        *legend(kinds, bottom),
    ]
    size = f'viewBox="0 0 {WIDTH} {height:g}" width="700" height="{height * 700 / WIDTH:.0f}"'
    font = 'font-family="Helvetica, Arial, Liberation Sans, sans-serif" font-size="14" fill="#111827"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>\n' + "\n".join(shapes) + "\n</svg>\n"


def image(side: int) -> Box:
    return Box("data", f"image|3 × {side} × {side}; good in training")


def damage(content: str) -> Box:
    return Box("fixed", content, dashed=True, other_name="damage")


def trained(content: str, *place: str, dashed: bool = False, other_name: str = "") -> Box:
    return Box("trained", content, *place, dashed=dashed, other_name=other_name)


def frozen(content: str, *place: str, other_name: str = "") -> Box:
    return Box("frozen", content, *place, other_name=other_name)


def result(content: str, beside: str = "") -> Box:
    return Box("result", content, "right" if beside else "middle", beside)


def loss(of: str, content: str, beside: str = "", column: Column = "left") -> Box:
    return Box("loss", f"loss|{content}", column, beside or of, dashed=True, other_name=f"loss of {of}")


def to_loss(start: str) -> Arrow:
    return Arrow(start, f"loss of {start}", "training", ("left", "right"))


def downwards(*names: str, use: Use = "both") -> list[Arrow]:
    return [Arrow(*pair, use) for pair in pairwise(names)]


INPUT = Box("data", "input|damaged image; in a prediction|the image as it is")
TO_INPUT = [
    *downwards("image", "damage", "input", use="training"),
    Arrow("image", "input", "prediction", ("right", "right"), (8, -8), "right"),
]
COMPARISON = [
    to_loss("reconstruction"),
    Arrow("reconstruction", "anomaly", "prediction", ("right", "left")),
    Arrow("image", "anomaly", "prediction", ("right", "top"), (-8, 0)),
]
"""From image and reconstruction to loss and map."""

FIGURES = {
    "RamFAE": Figure(
        [
            image(256),
            damage("DeletePaste|cuts out a rectangle (black)|and pastes it elsewhere"),
            INPUT,
            trained("encoder|64, 128, 256, 512 channels|→ 512 × 32 × 32"),
            trained(
                "bottleneck (MFFE)|1×1, 3×3 dilated by 5, 7, 9,|global pooling, side by side;|"
                "then coordinate attention|→ 512 × 32 × 32"
            ),
            trained("decoder|256, 128, 64 channels|→ 64 × 256 × 256"),
            trained("head|3×3 convolution, tanh|→ 3 × 256 × 256"),
            Box("data", "reconstruction|3 × 256 × 256"),
            loss("reconstruction", "GMSD + SSIM + L2|to the good image"),
            result("anomaly map|1 − MSGMS, 4 scales,|Gaussian (21, σ 3.5);|score: its maximum", "reconstruction"),
        ],
        [
            *TO_INPUT,
            *downwards("input", "encoder", "bottleneck", "decoder", "head", "reconstruction"),
            *COMPARISON,
        ],
    ),
    "FEAR": Figure(
        [
            image(256),
            damage(
                "PerlinAnomaly|in half of the images: a texture|in patches of noise on the object|(Otsu's threshold)"
            ),
            INPUT,
            trained("encoder|128, 256, 512, 1024, 1024,|each with attention (ECA)|→ 1024 × 16 × 16"),
            trained("decoder|512, 256, 128, 128 channels|→ 3 × 256 × 256"),
            Box("data", "reconstruction|3 × 256 × 256"),
            loss("reconstruction", "SSIM + L2|to the good image"),
            trained("segmentation (U-Net)|input and reconstruction in;|64 to 512 channels, 6 sizes|→ 2 × 256 × 256"),
            loss("segmentation", "focal, with the mask|of the damage"),
            result("anomaly map|probability of an anomaly;|score: its largest mean over|21 × 21 pixels"),
        ],
        [
            *TO_INPUT,
            *downwards("input", "encoder", "decoder", "reconstruction", "segmentation"),
            Arrow("input", "segmentation", "both", ("right", "right"), (8, 0), "right"),
            to_loss("reconstruction"),
            to_loss("segmentation"),
            Arrow("segmentation", "anomaly", "prediction"),
        ],
    ),
    "AstMFR": Figure(
        [
            image(256),
            trained("student|ResNeXt50-32x4d|→ 256 × 64 × 64|→ 512 × 32 × 32|→ 1024 × 16 × 16"),
            frozen("teacher|WideResNet50-2|→ 256 × 64 × 64|→ 512 × 32 × 32|→ 1024 × 16 × 16", "right", "student"),
            Box("fixed", "mask|half of the locations are set to 0,|in each of the three maps", dashed=True),
            trained("blocks (regeneration)|3×3, ReLU, 3×3 for each map:|the teacher's map from it"),
            Box("fixed", "distance|½ ‖u − v‖² of the unit vectors|at each location of each map"),
            loss("distance", "mean of each map,|sum of the three"),
            result("anomaly map|mean of the three, at full size,|Gaussian (σ 4), 5×5 mean filter;|score: its maximum"),
        ],
        [
            Arrow("image", "student"),
            Arrow("image", "teacher", "both", ("right", "top")),
            *downwards("student", "mask", "blocks", use="training"),
            Arrow("student", "blocks", "prediction", ("left", "left"), lane="left"),
            Arrow("blocks", "distance"),
            Arrow("teacher", "distance", "both", ("bottom", "right")),
            to_loss("distance"),
            Arrow("distance", "anomaly", "prediction"),
        ],
    ),
    "TSDN": Figure(
        [
            image(352),
            damage("SuperpixelFilling|fills 50 of 400 superpixels,|each with a random colour"),
            INPUT,
            trained("encoder (EfficientNet-b5)|24, 40, 64, 176, 512 channels|→ 512 × 11 × 11"),
            loss("mask_decoder", "L2 to the true mask", "encoder"),
            trained("reduce|1×1 convolution|→ 256 × 11 × 11"),
            trained("mask_decoder|256, 128, 64, 32, 16|→ 1 × 352 × 352", "left", "reduce", dashed=True),
            trained("estimator (FNE)|convolution, 3 linear layers;|one weight per channel"),
            loss("estimator", "cross-entropy; target:|1 − SSIM of channel|and predicted mask"),
            Box("fixed", "gate|channels times weights"),
            trained("image_decoder|256, 128, 64, 32, 16 channels|→ 3 × 352 × 352"),
            Box("data", "reconstruction|3 × 352 × 352"),
            loss("reconstruction", "L2 + ½ SSIM + GMS|to the good image"),
            result("anomaly map|distance of colours,|Gaussian (σ 4);|score: its maximum", "reconstruction"),
        ],
        [
            *TO_INPUT,
            *downwards("input", "encoder", "reduce", "estimator", "gate", "image_decoder", "reconstruction"),
            Arrow("reduce", "gate", "both", ("right", "right"), lane="right"),
            Arrow("encoder", "image_decoder", "both", ("right", "right"), lane="middle"),
            Arrow("encoder", "mask_decoder", "training", ("left", "right"), (22, -16), "left"),
            Arrow("reduce", "mask_decoder", "training", ("left", "right"), (8, 8)),
            Arrow("mask_decoder", "loss of mask_decoder", "training", ("top", "bottom")),
            *downwards("mask_decoder", "loss of estimator", use="training"),
            to_loss("estimator"),
            *COMPARISON,
        ],
    ),
    "RbAE": Figure(
        [
            "Phase 1 of the training (400 of 600 epochs)",
            trained("encoder|64, 128, 256, 512, 512 channels|→ 512 × 16 × 16", other_name="encoder 1"),
            Box("data", "images|a good one, and a copy|with a texture in|patches of noise", "left", "encoder 1", True),
            trained(
                "decoder|layers 3 to 5 of the|good image in|→ 3 × 256 × 256",
                "right",
                "encoder 1",
                other_name="decoder 1",
            ),
            Box("loss", "loss|layers 1 to 5 of both differ|where the damage is,|and nowhere else", dashed=True),
            loss("decoder 1", "100 L2 + perceptual|(VGG-16, frozen)|to the good image", "loss", "right"),
            "Phase 2 of the training, and prediction",
            INPUT,
            frozen("encoder|layers 1 to 5"),
            trained("repair (RBAM) of layers 3 to 5|attention to the reference,|patches of 2 and 4; fusion"),
            loss("repair", "L2 to the features|of the good image"),
            frozen("reference|stored features of|one good image", "right", "repair"),
            trained("decoder|reconstruction|→ 3 × 256 × 256"),
            loss("decoder", "100 L2 + perceptual|(VGG-16, frozen)|to the good image"),
            frozen("encoder|layers 1 to 3", other_name="encoder 2"),
            trained("discrimination (MSFDM)|compares layers 1 to 3|→ 1 × 256 × 256|→ 1 × 128 × 128|→ 1 × 64 × 64"),
            loss("discrimination", "focal, with the mask|of the damage"),
            result("anomaly map|0.2, 0.2 and 0.6 times the|three probabilities, at full size;|score: its maximum"),
        ],
        [
            Arrow("images", "encoder 1", "training", ("right", "left")),
            Arrow("encoder 1", "decoder 1", "training", ("right", "left")),
            *downwards("encoder 1", "loss", use="training"),
            *downwards("decoder 1", "loss of decoder 1", use="training"),
            *downwards("input", "encoder", "repair", "decoder", "encoder 2", "discrimination"),
            Arrow("reference", "repair", "both", ("left", "right")),
            to_loss("repair"),
            to_loss("decoder"),
            Arrow("encoder", "discrimination", "both", ("right", "right"), lane="outer"),
            to_loss("discrimination"),
            Arrow("discrimination", "anomaly", "prediction"),
        ],
    ),
}


def main(folder: str) -> None:
    for name, figure in FIGURES.items():
        (Path(folder) / f"{name.lower()}_architecture.svg").write_text(draw(figure, name), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
