"""The two phases in one fit: when they switch, what they train, and how a training is resumed in or between them."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from anomalib.callbacks import ModelCheckpoint
from anomalib.data import ImageBatch, MVTecAD
from anomalib.engine import Engine
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Timer
from torch import Tensor
from torch.multiprocessing import ProcessRaisedException
from torch.utils.data import DataLoader

from anomalib_plus import RbAE
from anomalib_plus.models.rbae.phases import Phases

SMALL: dict[str, Any] = {
    "widths": (4, 4, 8, 8, 8),
    "fusion_width": 4,
    "fdm_width": 4,
    "perceptual": False,
    "learning_rate": 1e-3,
    "pre_processor": False,
    "visualizer": False,
    "evaluator": False,
    "post_processor": False,
}
WITHOUT_OUTPUT = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}

State = dict[str, Tensor]


class History(Callback):
    """Phase, network and number of Adam's moments at the end of each epoch; torch's seed depends on the epoch alone."""

    def __init__(self) -> None:
        self.phases: list[int] = []
        self.states: list[State] = []
        self.moments: list[int] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: RbAE) -> None:
        torch.manual_seed(trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Any, pl_module: RbAE) -> None:
        self.phases.append(pl_module.model.phase)
        self.states.append({name: value.clone() for name, value in pl_module.model.state_dict().items()})
        self.moments.append(len(trainer.optimizers[0].state))


@pytest.fixture(scope="module")
def loader(mvtec_layout: Path) -> DataLoader:
    datamodule = MVTecAD(root=mvtec_layout, category="surface", num_workers=0)
    datamodule.setup()
    return DataLoader(datamodule.train_data, 3, collate_fn=datamodule.train_data.collate_fn)


def fit(model: RbAE, loader: DataLoader, epochs: int, *callbacks: Callback, **arguments: Any) -> Engine:
    engine = Engine(
        max_epochs=epochs, accelerator="cpu", devices=1, callbacks=list(callbacks), **WITHOUT_OUTPUT, **arguments
    )
    engine.fit(model, loader)
    return engine


def changed(before: State, after: State) -> set[str]:
    """Top-level parts that are no longer what they were."""
    parts = {"encoder", "decoder", "repair", "discrimination", "reference"}
    different = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    return different & parts


@pytest.fixture(scope="module")
def six_epochs(loader: DataLoader, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A training of 4 and 2 epochs, with a checkpoint of each."""
    folder = tmp_path_factory.mktemp("training")
    torch.manual_seed(0)
    model, history = RbAE(**SMALL), History()
    checkpoints = ModelCheckpoint(folder / "epochs", filename="{epoch}", save_top_k=-1)
    fit(model, loader, 6, history, checkpoints, default_root_dir=folder)
    return SimpleNamespace(model=model, history=history, checkpoints=folder / "epochs")


def test_phases_of_a_training(six_epochs: SimpleNamespace) -> None:
    assert six_epochs.history.phases == [1, 1, 1, 1, 2, 2]


def test_each_phase_trains_its_parts_and_the_encoder_is_bit_identical_through_the_second(
    six_epochs: SimpleNamespace,
) -> None:
    states = six_epochs.history.states
    assert changed(states[0], states[3]) == {"encoder", "decoder"}
    assert changed({k: v for k, v in states[3].items() if "reference" not in k}, states[5]) == {
        "decoder",
        "repair",
        "discrimination",
    }
    assert changed(states[4], states[5]) == {"decoder", "repair", "discrimination"}


def test_the_optimizer_starts_anew_with_the_second_phase(six_epochs: SimpleNamespace) -> None:
    model = six_epochs.model.model
    trained = [len(list(part.parameters())) for part in (model.encoder, model.decoder, model.repair)]
    heads = len(list(model.discrimination.parameters()))
    assert six_epochs.history.moments == [sum(trained[:2])] * 4 + [sum(trained[1:]) + heads] * 2


@pytest.mark.parametrize("epoch", [0, 2, 3, 4])
def test_a_training_resumed_in_or_between_the_phases_ends_like_an_uninterrupted_one(
    six_epochs: SimpleNamespace, loader: DataLoader, epoch: int
) -> None:
    torch.manual_seed(99)
    model, history = RbAE(**SMALL), History()
    engine = Engine(max_epochs=6, accelerator="cpu", devices=1, callbacks=[history], **WITHOUT_OUTPUT)
    engine.fit(model, loader, ckpt_path=six_epochs.checkpoints / f"epoch={epoch}.ckpt")
    assert history.phases[-(5 - epoch) :] == [1, 1, 1, 1, 2, 2][epoch + 1 :]
    torch.testing.assert_close(model.state_dict(), six_epochs.model.state_dict(), rtol=0, atol=0)


def test_a_checkpoint_needs_no_data(six_epochs: SimpleNamespace) -> None:
    loaded = RbAE.load_from_checkpoint(six_epochs.checkpoints / "epoch=5.ckpt").eval()
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(loaded(images).anomaly_map, six_epochs.model.eval()(images).anomaly_map)
    features = loaded.model.encoder(loaded.model.reference.image)
    for level in (3, 4, 5):
        assert torch.equal(loaded.model.reference.features(level), features[level - 1])


def test_the_encoder_has_gradients_again_when_the_strategy_is_set_up(
    six_epochs: SimpleNamespace, loader: DataLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several processes synchronise what has gradients at that moment, and nothing else."""
    model = RbAE.load_from_checkpoint(six_epochs.checkpoints / "epoch=5.ckpt")
    configure, seen = model.configure_optimizers, []
    monkeypatch.setattr(
        model,
        "configure_optimizers",
        lambda: (seen.extend(p.requires_grad for p in model.model.encoder.parameters()), configure())[1],
    )
    fit(model, loader, 1)
    assert seen
    assert all(seen)


def test_a_new_fit_begins_with_the_first_phase(six_epochs: SimpleNamespace, loader: DataLoader) -> None:
    model, history = RbAE.load_from_checkpoint(six_epochs.checkpoints / "epoch=5.ckpt"), History()
    fit(model, loader, 2, history)
    assert history.phases == [1, 2]
    assert "encoder" in changed(six_epochs.history.states[-1], history.states[0])


def test_a_longer_resumed_training_stays_in_the_second_phase(six_epochs: SimpleNamespace, loader: DataLoader) -> None:
    model, history = RbAE(**SMALL), History()
    engine = Engine(max_epochs=30, max_steps=14, accelerator="cpu", callbacks=[history], **WITHOUT_OUTPUT)
    engine.fit(model, loader, ckpt_path=six_epochs.checkpoints / "epoch=5.ckpt")
    assert history.phases[-1] == 2


def test_a_training_that_ends_in_the_first_phase_warns_and_predicts(loader: DataLoader) -> None:
    model = RbAE(**SMALL)
    with pytest.warns(UserWarning, match="ended in its first phase"):
        fit(model, loader, 1)
    assert (model.model.phase, model.model.reference.ready) == (1, False)
    assert model.eval()(torch.rand(1, 3, 64, 64)).anomaly_map.shape == (1, 1, 64, 64)


def test_a_training_without_a_second_phase_is_told_what_asked_for_it(loader: DataLoader) -> None:
    with pytest.warns(UserWarning, match=r"ended in its first phase.*phase2_epochs=0 asked for that"):
        fit(RbAE(**SMALL, phase2_epochs=0), loader, 1)


@pytest.mark.parametrize("reference", ["first", "medoid"])
def test_validation_in_the_first_phase_and_the_reference_of_a_training(
    loader: DataLoader, mvtec_layout: Path, reference: str
) -> None:
    """Validation runs after every epoch and its steps leave no trace in the training."""
    model, history = RbAE(**SMALL, reference=reference), History()
    datamodule = MVTecAD(root=mvtec_layout, category="surface", num_workers=0, train_batch_size=3)
    Engine(max_epochs=3, accelerator="cpu", devices=1, callbacks=[history], **WITHOUT_OUTPUT).fit(
        model, datamodule=datamodule
    )
    assert history.phases == [1, 1, 2]
    images = torch.stack([loader.dataset[index].image for index in range(6)])
    matches = [torch.equal(model.model.reference.image[0], image) for image in images]
    assert sum(matches) == 1
    assert matches[0] or reference == "medoid"


def trainer(**limits: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"max_epochs": -1, "max_steps": -1, "global_step": 0, "callbacks": [], **limits})


def phases(epochs: int, limits: Callable[[int], dict[str, Any]], **arguments: Any) -> list[int]:
    """The phase due in each epoch of a training."""
    model = RbAE(**SMALL, **arguments)
    trainers = (trainer(current_epoch=epoch, **limits(epoch)) for epoch in range(epochs))
    return [Phases().due_phase(one, model) for one in trainers]


def test_the_papers_epochs_switch_at_400() -> None:
    assert phases(600, lambda _: {"max_epochs": 600}) == [1] * 400 + [2] * 200


@pytest.mark.parametrize(("epochs", "first"), [(1, 1), (2, 1), (3, 2), (4, 3), (20, 13), (60, 40)])
def test_shorter_trainings_keep_the_share(epochs: int, first: int) -> None:
    assert phases(epochs, lambda _: {"max_epochs": epochs}) == [1] * first + [2] * (epochs - first)


def test_shares_are_arguments() -> None:
    halves = {"phase1_epochs": 50, "phase2_epochs": 50}
    assert phases(10, lambda _: {"max_epochs": 10}, **halves) == [1] * 5 + [2] * 5
    assert phases(10, lambda _: {"max_epochs": 10}, phase2_epochs=0) == [1] * 10


def test_steps_and_time_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert phases(12, lambda epoch: {"max_steps": 120, "global_step": 10 * epoch}) == [1] * 8 + [2] * 4
    timer = Timer(duration=timedelta(seconds=120))

    def at(epoch: int) -> dict[str, Any]:
        monkeypatch.setattr(timer, "time_elapsed", lambda *_: 10.0 * epoch)
        return {"callbacks": [timer]}

    assert phases(12, at) == [1] * 8 + [2] * 4
    assert phases(30, lambda _: {}) == [1] * 30
    assert phases(13, at, phase2_epochs=0) == [1] * 13


def test_a_limit_of_steps_switches_within_an_epoch(loader: DataLoader) -> None:
    model, history = RbAE(**SMALL), History()
    seen: list[int] = []
    model.loss.register_forward_pre_hook(lambda *_: seen.append(model.model.phase))
    fit(model, loader, -1, history, max_steps=7)
    assert seen == [1] * 5 + [2] * 2


def step(model: RbAE, images: Tensor, batch_idx: int = 1) -> Tensor:
    model.log = model.log_dict = lambda *args, **kwargs: None
    return model.training_step(ImageBatch(image=images), batch_idx)


@pytest.mark.parametrize("phase", [1, 2])
def test_the_network_sees_defects_and_is_compared_with_clean_images_and_masks(phase: int) -> None:
    model, images = RbAE(**SMALL), torch.rand(4, 3, 64, 64)
    if phase == 2:
        model.model.enter_phase_2(images[:1])
    seen: list[Any] = []
    model.model.register_forward_pre_hook(lambda _, args: seen.extend(args))
    model.loss.register_forward_pre_hook(lambda _, args: seen.extend(args[1:3]))
    step(model.train(), images)
    defective, clean, target, mask = seen
    assert torch.equal(clean, images)
    assert torch.equal(target, images)
    assert mask.flatten(1).any(1).all()
    assert torch.equal(torch.where(mask > 0, images, defective), images)
    assert not torch.equal(defective, images)


@pytest.mark.parametrize("phase", [1, 2])
def test_loss_falls_on_a_repeated_batch(phase: int) -> None:
    torch.manual_seed(0)
    model = RbAE(**{**SMALL, "learning_rate": 5e-3}).train()
    images = 0.5 + 0.2 * torch.sin(torch.arange(64) / 3).expand(4, 3, 64, 64)
    if phase == 2:
        model.model.enter_phase_2(images[:1])
    optimizer = model.configure_optimizers()
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = step(model, images)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])


def test_sharpness_is_logged_once_per_epoch_in_the_second_phase() -> None:
    model, images = RbAE(**SMALL).train(), torch.rand(2, 3, 64, 64)
    logged: list[str] = []
    for phase in (1, 2):
        if phase == 2:
            model.model.enter_phase_2(images[:1])
        for batch_idx in range(3):
            model.log = lambda name, *args, **kwargs: logged.append(name)
            model.log_dict = lambda *args, **kwargs: None
            model.training_step(ImageBatch(image=images), batch_idx)
    assert [name for name in logged if "sharpness" in name] == [f"attention_sharpness_{level}" for level in (3, 4, 5)]


def test_arguments_reach_the_transform_and_the_optimizer() -> None:
    model = RbAE(**SMALL, augmenter=RbAE.configure_augmenter(textures="textures", probability=0.7, opacity=(0.2, 0.9)))
    transform = model.augmenter
    assert (transform.probability, transform.opacity, transform.operations) == (0.7, (0.2, 0.9), "anomalib")
    assert str(transform.textures.folder) == "textures"
    (group,) = model.configure_optimizers().param_groups
    assert (group["lr"], group["weight_decay"]) == (1e-3, 1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
        ({"segmentation_weight": 0.0}, "segmentation_weight=0 leaves the MSFDM"),
        ({"augmenter": False}, "augmenter must not be False"),
        ({"augmenter": RbAE.configure_augmenter(probability=0.0)}, "nor its probability or opacity 0"),
        ({"augmenter": RbAE.configure_augmenter(opacity=0.0)}, "nor its probability or opacity 0"),
        ({"phase1_epochs": 0}, "phase1_epochs must be positive"),
        ({"phase2_epochs": -1}, "phase2_epochs >= 0"),
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RbAE(**{**SMALL, **arguments})


def test_several_processes_must_look_for_idle_parameters(loader: DataLoader) -> None:
    engine = Engine(max_epochs=1, accelerator="cpu", devices=2, strategy="ddp_fork", **WITHOUT_OUTPUT)
    with pytest.raises(ProcessRaisedException, match="strategy=ddp_find_unused_parameters_true"):
        engine.fit(RbAE(**SMALL), loader)
