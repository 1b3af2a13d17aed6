"""Superpixel filling makes each label map once, and can make all of them before the first epoch."""

import copy
from pathlib import Path

import pytest
import torch
from anomalib.data import MVTecAD
from torchvision.transforms.v2.functional import resize

from anomalib_plus.transforms.superpixel_filling import SuperpixelFilling


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=seeded(seed))


# The cache


def test_an_image_is_cut_once_whatever_its_precision_and_neighbours() -> None:
    filling = SuperpixelFilling()
    images = noise(3, 3, 40, 40).to(torch.bfloat16)
    filling(images.float())
    filling(images[1:])
    filling(images[0])
    assert filling.cache.misses == 3


def test_a_key_stands_for_one_image_at_one_size() -> None:
    filling = SuperpixelFilling()
    for size in (40, 48):
        for name, seed in (("a", 0), ("b", 1)):
            filling(noise(3, size, size, seed=seed), keys=[name])
    assert filling.cache.misses == 4
    keyed, _ = filling(noise(2, 3, 40, 40, seed=7), seeded(), keys=["a", "b"])  # other images, the old label maps
    assert filling.cache.misses == 4
    content, _ = SuperpixelFilling()(noise(2, 3, 40, 40, seed=7), seeded())
    assert not torch.equal(keyed, content)


def test_with_keys_a_cached_image_is_not_read() -> None:
    """Meta tensors have no content: reading one, or waiting for one as on a GPU, would raise."""
    filling = SuperpixelFilling()
    filling(noise(2, 3, 40, 40), keys=["a", "b"])
    unreadable = torch.empty(2, 3, 40, 40, device="meta")
    filled, masks = filling(unreadable, keys=["b", "a"])
    assert filled.shape == (2, 3, 40, 40)
    assert masks.shape == (2, 1, 40, 40)
    with pytest.raises(NotImplementedError):
        filling(unreadable, keys=["b", "new"])
    with pytest.raises(NotImplementedError):
        filling(unreadable)


def test_memory_is_bounded_and_nothing_cached_changes_nothing() -> None:
    images = noise(6, 3, 40, 40)
    map_bytes = 40 * 40 * 2
    expected, _ = SuperpixelFilling()(images, seeded())
    for held in (0, 1, 4):
        filling = SuperpixelFilling(max_cache_bytes=held * map_bytes)
        filled, _ = filling(images, seeded())
        assert torch.equal(filled, expected)
        assert filling.cache.nbytes == held * map_bytes


def test_a_folder_serves_the_next_run_and_broken_files_are_made_anew(tmp_path: Path) -> None:
    images = noise(3, 3, 40, 40)
    expected, _ = SuperpixelFilling(cache_folder=tmp_path)(images, seeded())
    files = sorted(tmp_path.iterdir())
    files[0].write_bytes(b"")
    files[1].write_bytes(files[1].read_bytes()[:-30])
    later = SuperpixelFilling(cache_folder=str(tmp_path))
    assert torch.equal(later(images, seeded())[0], expected)
    assert later.cache.misses == 2
    last = SuperpixelFilling(cache_folder=tmp_path)
    assert torch.equal(last(images, seeded())[0], expected)
    assert last.cache.misses == 0
    fewer = SuperpixelFilling(n_segments=200, cache_folder=tmp_path)
    fewer(images, seeded())
    assert fewer.cache.misses == 3


def test_copies_of_a_model_do_not_carry_the_cache() -> None:
    filling = SuperpixelFilling()
    expected, _ = filling(noise(3, 40, 40), seeded())
    twin = copy.deepcopy(filling)
    assert len(twin.cache) == 0
    assert not filling.state_dict()
    assert torch.equal(twin(noise(3, 40, 40), seeded())[0], expected)


# Warming


def test_warm_makes_each_label_map_once_and_forward_finds_it(capsys: pytest.CaptureFixture) -> None:
    filling = SuperpixelFilling()
    images, keys = noise(5, 3, 40, 40), list("abcde")
    assert filling.warm(images, keys, workers=2) == 5
    assert "Superpixels" in capsys.readouterr().out
    assert filling.warm(images, keys, progress=False) == 0
    assert not capsys.readouterr().out
    warmed, _ = filling(images, seeded(), keys)
    assert filling.cache.misses == 5
    assert torch.equal(warmed, SuperpixelFilling()(images, seeded())[0])


def test_warm_without_keys_goes_by_content() -> None:
    filling = SuperpixelFilling()
    images = noise(3, 3, 40, 40)
    assert filling.warm([images[0], images[1]], progress=False) == 2
    filling(images)
    assert filling.cache.misses == 3


def test_warm_reads_a_dataset_of_anomalib_and_uses_its_paths(mvtec_layout: Path) -> None:
    datamodule = MVTecAD(root=mvtec_layout, category="surface", num_workers=0, train_batch_size=6)
    datamodule.setup()
    filling = SuperpixelFilling()

    def shrink(image: torch.Tensor) -> torch.Tensor:
        return resize(image, [48, 40])

    assert filling.warm(datamodule.train_data, transform=shrink, progress=False) == 6
    batch = next(iter(datamodule.train_dataloader()))
    filling(shrink(batch.image), keys=batch.image_path)
    assert filling.cache.misses == 6


def test_warm_says_when_the_cache_is_too_small() -> None:
    filling = SuperpixelFilling(max_cache_bytes=2 * 40 * 40 * 2)
    with pytest.warns(UserWarning, match="Give it more bytes or a folder"):
        filling.warm(noise(3, 3, 40, 40), progress=False)


def test_a_folder_is_room_enough_and_made_when_it_is_needed(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    folder = tmp_path / "some" / "where"
    filling = SuperpixelFilling(max_cache_bytes=2 * 40 * 40 * 2, cache_folder=folder)
    assert not folder.exists()
    filling.warm(noise(3, 3, 40, 40), progress=False)
    assert len(list(folder.iterdir())) == 3
    assert not recwarn.list


def test_another_preparation_of_the_same_files_gets_other_label_maps(tmp_path: Path) -> None:
    images, keys = noise(2, 3, 40, 40), ["a.png", "b.png"]
    for preparation, made in (("Resize(40)", 2), ("Resize(50) CenterCrop(40)", 2), ("Resize(40)", 0)):
        filling = SuperpixelFilling(cache_folder=tmp_path)
        filling.preparation = preparation
        assert filling.warm(images, keys, progress=False) == made
