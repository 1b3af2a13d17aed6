"""Draw parts of the demo, their anomaly maps and the decisions of an inspector: docs/images/inspection.png.

anomalib-plus demo washers
python docs/examples/inspection_figure.py washers/inspector docs/images/inspection.png
"""

import sys

from matplotlib import pyplot as plt

from anomalib_plus.data.demo_surfaces.drawing import draw_image
from anomalib_plus.inspector import Inspector
from anomalib_plus.inspector.regions import draw_overlay, marked_region

PARTS = (("good", 3), ("scratch", 1), ("contamination", 4), ("deformation", 2))
COLOURS = {"accept": "#1a7f37", "reject": "#cf222e"}


def main(bundle: str, output: str) -> None:
    inspector = Inspector.load(bundle)
    figure, axes = plt.subplots(2, len(PARTS), figsize=(2.1 * len(PARTS), 4.5), layout="constrained")
    for (kind, number), (above, below) in zip(PARTS, axes.T, strict=True):
        image, _ = draw_image(0, "washer", "test", kind, number)
        prediction = inspector(image)
        region = marked_region(prediction.map, inspector.info.threshold, prediction.decision == "reject")
        above.imshow(image)
        below.imshow(draw_overlay(image, prediction.map, inspector.info.threshold, region))
        decision = str(prediction.decision)
        label = f"{decision}  {prediction.score:.2f}"
        below.set_xlabel(label, color=COLOURS[decision], fontsize=12, fontweight="bold")
        above.set_title("good part" if kind == "good" else kind, fontsize=11)
        for axis in (above, below):
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    figure.savefig(output, dpi=80)


if __name__ == "__main__":
    main(*sys.argv[1:])
