"""When two outputs count as the same."""

import torch
from anomalib.data import ImageBatch, InferenceBatch


def assert_same_output(actual: InferenceBatch | ImageBatch, expected: InferenceBatch, tolerance: float) -> None:
    """Numbers within the tolerance; decisions alike, except where the number is at the threshold of 0.5."""
    for number, decision in (("pred_score", "pred_label"), ("anomaly_map", "pred_mask")):
        reference = getattr(expected, number)
        values = getattr(actual, number).reshape(reference.shape)
        torch.testing.assert_close(values, reference, atol=tolerance, rtol=0, msg=lambda text, n=number: f"{n}: {text}")
        clear = (reference - 0.5).abs() > tolerance
        decided = getattr(actual, decision).reshape(reference.shape)
        assert torch.equal(decided[clear], getattr(expected, decision)[clear]), decision
