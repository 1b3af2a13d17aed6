"""The cache is bounded, forgets the least recently used, and survives anything that happens to its files."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anomalib_plus.transforms.superpixel_cache import LabelMap, SuperpixelCache

MAP_BYTES = 8 * 10 * 2


def label_map(number: int) -> LabelMap:
    labels = torch.arange(80, dtype=torch.int16).view(8, 10) % (number + 1)
    return LabelMap(labels, number + 1)


def holds(cache: SuperpixelCache, key: str, number: int) -> bool:
    found = cache.get(key)
    return found is not None and torch.equal(found.labels, label_map(number).labels) and found.n_labels == number + 1


def test_the_least_recently_used_map_leaves_first() -> None:
    cache = SuperpixelCache(max_bytes=3 * MAP_BYTES)
    for number in range(3):
        cache.put(f"{number}", label_map(number))
    assert holds(cache, "0", 0)  # now "1" is the oldest
    cache.put("3", label_map(3))
    assert cache.get("1") is None
    assert holds(cache, "0", 0)
    assert holds(cache, "2", 2)
    assert holds(cache, "3", 3)


@settings(deadline=None, max_examples=100)
@given(
    max_bytes=st.integers(0, 2000),
    operations=st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 300)), max_size=40),
)
def test_memory_stays_within_bounds_and_is_counted_right(max_bytes: int, operations: list[tuple[str, int]]) -> None:
    cache = SuperpixelCache(max_bytes)
    sizes: dict[str, int] = {}
    for key, length in operations:
        cache.put(key, LabelMap(torch.zeros(1, length, dtype=torch.int16), 1))
        if 2 * length <= max_bytes:
            sizes[key] = 2 * length
        held = {key: cache.get(key) for key in "abcdef"}
        assert cache.nbytes == sum(found.labels.nbytes for found in held.values() if found is not None) <= max_bytes
        assert len(cache) == sum(found is not None for found in held.values())
        if key in sizes and sizes[key] == 2 * length:
            assert held[key] is not None


def test_a_map_larger_than_the_bound_does_not_push_the_others_out() -> None:
    cache = SuperpixelCache(max_bytes=MAP_BYTES)
    cache.put("small", label_map(1))
    cache.put("large", LabelMap(torch.zeros(100, 100, dtype=torch.int16), 1))
    assert holds(cache, "small", 1)
    assert cache.get("large") is None


def test_files_outlive_the_memory_and_are_specific_to_key_and_settings(tmp_path: Path) -> None:
    SuperpixelCache(10**6, tmp_path / "new" / "folder", settings="400").put("key/with:signs", label_map(4))
    later = SuperpixelCache(10**6, tmp_path / "new" / "folder", settings="400")
    assert holds(later, "key/with:signs", 4)
    assert later.nbytes == MAP_BYTES
    assert later.get("another key") is None
    assert SuperpixelCache(10**6, tmp_path / "new" / "folder", settings="200").get("key/with:signs") is None


def test_misses_count_what_neither_memory_nor_disk_had(tmp_path: Path) -> None:
    cache = SuperpixelCache(MAP_BYTES, tmp_path)
    assert cache.get("a") is None
    cache.put("a", label_map(1))
    cache.put("b", label_map(2))  # pushes "a" out of memory, not off the disk
    assert holds(cache, "a", 1)
    assert cache.misses == 1


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.data())
def test_a_damaged_file_is_a_miss_and_is_replaced(tmp_path: Path, damage: st.DataObject) -> None:
    cache = SuperpixelCache(0, tmp_path)
    cache.put("key", label_map(7))
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    if damage.draw(st.booleans(), "cut off"):
        content = content[: damage.draw(st.integers(0, len(content) - 1), "length")]
    else:
        content[damage.draw(st.integers(0, len(content) - 1), "position")] ^= damage.draw(st.integers(1, 255), "bits")
    file.write_bytes(content)
    assert cache.get("key") is None or holds(cache, "key", 7)  # some bytes of an archive mean nothing
    cache.put("key", label_map(7))
    assert holds(cache, "key", 7)


def test_an_interrupted_write_leaves_no_file_and_only_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_disk(file: Path, labels: object) -> None:
        file.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("anomalib_plus.transforms.superpixel_cache.np.savez_compressed", fill_disk)
    cache = SuperpixelCache(10**6, tmp_path)
    with pytest.warns(UserWarning, match="No space left on device"):
        cache.put("key", label_map(1))
    assert not list(tmp_path.iterdir())
    assert holds(cache, "key", 1)


def test_a_folder_that_cannot_be_made_is_warned_of_when_there_is_something_to_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = SuperpixelCache(10**6, tmp_path / "file" / "folder")
    label_map = LabelMap(torch.zeros(4, 4, dtype=torch.int16), 1)
    with pytest.warns(UserWarning, match="could not be stored in .*folder"):
        cache.put("key", label_map)
    assert cache.get("key") is label_map


def test_copies_start_empty_and_keep_the_folder(tmp_path: Path) -> None:
    cache = SuperpixelCache(10**6, tmp_path, settings="400")
    cache.put("key", LabelMap(torch.zeros(500, 500, dtype=torch.int16), 1))
    assert len(pickle.dumps(cache)) < 1000
    for twin in (pickle.loads(pickle.dumps(cache)), copy.deepcopy(cache)):
        assert (len(twin), twin.nbytes) == (0, 0)
        assert twin.get("key") is not None
    assert len(cache) == 1


def test_threads_share_a_cache() -> None:
    cache = SuperpixelCache(20 * MAP_BYTES)

    def use(number: int) -> bool:
        cache.put(f"{number % 40}", label_map(number % 40))
        found = cache.get(f"{number % 40}")
        return found is None or torch.equal(found.labels, label_map(number % 40).labels)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(2000)))
    assert cache.nbytes == len(cache) * MAP_BYTES == 20 * MAP_BYTES
