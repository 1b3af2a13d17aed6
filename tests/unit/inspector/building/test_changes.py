"""What a second build says about the first."""

from anomalib_plus.inspector.building.outcome import changes

BEFORE = {
    "files": {"a.png": "1", "b.png": "2", "c.png": "3"},
    "settings": {"--seed": 0, "--bad": None, "--image-size": [128, 128]},
    "model": "A",
    "rejected": [0, 20],
    "found": [18, 20],
}


def test_changes():
    now = {
        "files": {"a.png": "1", "b.png": "9", "d.png": "4", "e.png": "5"},
        "settings": {"--seed": 0, "--bad": "bad", "--image-size": [64, 64]},
        "model": "B",
        "rejected": [0, 20],
        "found": [19, 20],
    }
    assert changes(BEFORE, now) == [
        "Images of good parts: 2 new, 1 gone, 1 with another content.",
        "--bad was not given and is bad.",
        "--image-size was 128 128 and is 64 64.",
        "The model was A and is B.",
        "Defects found: 18 of 20 before, 19 of 20 now.",
    ]


def test_no_changes():
    assert changes(BEFORE, BEFORE) == ["Nothing is different from the build before."]
    assert changes(None, BEFORE) == []
