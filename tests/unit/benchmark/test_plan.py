from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import yaml

from anomalib_plus import preset
from anomalib_plus.benchmark.choices import with_budget, with_roots
from anomalib_plus.benchmark.plan import Job, Sweep, expand, load
from anomalib_plus.benchmark.schema import PlanError
from empty_layout import make_categories

CONFIGS = Path(__file__).parents[3] / "configs" / "benchmark"
SWEEPS = sorted(file for file in CONFIGS.glob("*.yaml") if file.stem != "gpu")  # which lists costs to measure
MODEL = {"class_path": "x.Ours", "init_args": {"width": 4}}
DATA = {"class_path": "x.Data", "categories": ["a", "b"], "init_args": {"root": "r"}}
SWEEP = {"models": [MODEL, {"class_path": "x.Theirs"}], "data": [DATA], "seeds": [0, 1], "budget": {"max_epochs": 2}}


def write(tmp_path, **changes):
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(SWEEP | changes))
    return file


def test_jobs_are_the_product(tmp_path):
    jobs = expand(load(Sweep, write(tmp_path, protocol={"image_size": [64, 32]}, trainer={"accelerator": "cpu"})))
    assert len(jobs) == 2 * 2 * 2
    assert len({job.job_id for job in jobs}) == 8
    first = jobs[0]
    assert first.model == {"label": "Ours", "class_path": "x.Ours", "arguments": {"width": 4}, "variant": None}
    assert first.data["arguments"] == {"root": str(Path.cwd() / "r"), "category": "a"}
    assert first.protocol["image_size"] == [64, 32]
    assert (first.seed, first.budget["max_epochs"]) == (0, 2)
    assert first.title == "Ours / Data a / seed 0"
    assert Job.from_json(first.to_json()) == first
    assert Job.from_json(first.to_json()).job_id == first.job_id


def test_the_id_depends_on_what_decides_the_result_only():
    job = Job({"label": "M"}, {"label": "D"}, 0, {"max_epochs": 1}, {"image_size": [8, 8]}, {"accelerator": "cpu"})
    same = [{"gallery": 9}, {"timeout_seconds": 5.0}]
    same += [{"trainer": {"accelerator": "gpu", "devices": one, "num_nodes": 1}} for one in (1, "auto", [3])]
    other = [{"seed": 1}, {"trainer": {"precision": "16-mixed"}}, {"protocol": {"image_size": [9, 8]}}, {"budget": {}}]
    other += [{"trainer": {"devices": 2}}, {"trainer": {"devices": [0, 1]}}, {"trainer": {"num_nodes": 2}}]
    assert {replace(job, **change).job_id for change in same} == {job.job_id}
    assert len({replace(job, **change).job_id for change in other} | {job.job_id}) == 8


def test_ids_of_stored_results_stay_what_they_were(tmp_path):
    data = {"class_path": "x.Data", "categories": ["a"], "init_args": {"root": "/data/tiles"}}
    sweep = write(tmp_path, data=[data], models=[MODEL], seeds=[0], trainer={"accelerator": "cpu"})
    (job,) = expand(load(Sweep, sweep))
    assert job.job_id == "a118e13566a5"


def test_a_relative_root_is_the_same_data_from_everywhere(tmp_path, monkeypatch):
    here, absolute = expand(load(Sweep, write(tmp_path))), DATA | {"init_args": {"root": str(Path.cwd() / "r")}}
    assert [job.job_id for job in expand(load(Sweep, write(tmp_path, data=[absolute])))] == [job.job_id for job in here]
    monkeypatch.chdir("/")
    there = expand(load(Sweep, write(tmp_path)))
    assert not {job.job_id for job in here} & {job.job_id for job in there}
    assert Job.from_json(here[0].to_json()).job_id == here[0].job_id


def test_what_json_cannot_hold_travels_as_text(tmp_path):
    file = write(tmp_path, models=[{"class_path": "x.Ours", "init_args": {"since": date(2020, 1, 2)}}])
    job = expand(load(Sweep, file))[0]
    assert Job.from_json(job.to_json()).model["arguments"] == {"since": "2020-01-02"}
    assert Job.from_json(job.to_json()).job_id == job.job_id


def test_a_model_may_have_its_own_budget_and_data_arguments(tmp_path):
    model = MODEL | {"budget": {"max_steps": 5}, "data": {"train_batch_size": 1}, "trainer": {"precision": 32}}
    job = expand(load(Sweep, write(tmp_path, models=[model])))[0]
    assert job.budget == {"max_epochs": None, "max_steps": 5, "max_seconds": None, "max_cpu_seconds": None}
    assert job.data["arguments"]["train_batch_size"] == 1
    assert job.trainer == {"precision": 32}


def test_a_preset_is_a_model_with_its_arguments(tmp_path):
    content = preset("small/ramfae")["model"]
    names = ("widths", "learning_rate", "l2_weight", "augmenter")
    settings = {name: content["init_args"][name] for name in names}
    models = [{"preset": "small/ramfae"}, {"preset": "small/ramfae", "variant": "x", "init_args": {"widths": [4, 8]}}]
    sweep = with_budget(load(Sweep, write(tmp_path, models=models)), {"max_epochs": 3})
    plain, changed = (job.model for job in expand(sweep)[:2])
    assert plain == {"label": "RamFAE", "class_path": content["class_path"], "arguments": settings, "variant": None}
    assert changed == plain | {"variant": "x", "arguments": settings | {"widths": [4, 8]}}
    written_out = {"class_path": content["class_path"], "init_args": settings}
    (same, *_) = expand(load(Sweep, write(tmp_path, models=[written_out], budget={"max_epochs": 3})))
    assert same.job_id == expand(sweep)[0].job_id


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": []}, "no key 'model'. Did you mean models"),
        ({"models": [{"init_args": {}}]}, r"models\[0\]: give either class_path or preset, got None and None"),
        ({"models": [MODEL | {"preset": "small/ramfae"}]}, "either class_path or preset, got x.Ours and small/ramfae"),
        ({"models": [{"preset": "small/x"}]}, r"models\[0\]: There is no preset 'small/x'; available: small/"),
        ({"budget": {"max_epoch": 3}}, "budget has no key 'max_epoch'. Did you mean max_epochs"),
        ({"budget": {"max_epochs": "three"}}, "budget.max_epochs must be an integer, got 'three'"),
        ({"budget": {"max_epochs": 0}}, "limits must be positive"),
        ({"budget": {"max_seconds": float("inf")}}, "positive and finite"),
        ({"budget": {"max_cpu_seconds": float("nan")}}, "positive and finite"),
        ({"trainer": {"max_epochs": 3, "callbacks": []}}, "callbacks, max_epochs cannot be given: set the limits"),
        ({"models": [MODEL | {"trainer": {"max_time": 3}}]}, "max_time cannot be given: set the limits"),
        ({"budget": {}}, "Nothing limits the training of x.Ours"),
        ({"seeds": [True]}, r"seeds\[0\] must be an integer"),
        ({"protocol": {"image_size": [64]}}, "image_size must be a list of 2"),
        ({"protocol": {"mask_rule": "any"}}, "mask_rule must be one of 'nearest, > 0.5'"),
        ({"protocol": {"metrics": ["auroc"]}}, "no metric 'auroc'"),
        ({"models": [MODEL, MODEL]}, "Two jobs are the same: Ours / Data a / seed 0"),
        ({"models": []}, "at least one model"),
        ({"models": [MODEL | {"init_args": {"evaluator": True}}]}, "evaluator follow from the protocol"),
        ({"data": [{"class_path": "x.Data"}]}, "needs categories, or a root"),
        ({"data": [{"class_path": "x.Data", "init_args": {"root": "nowhere"}}]}, "No category in MVTec layout"),
        ({"data": [DATA | {"categories": []}]}, "nothing to run"),
    ],
)
def test_mistakes_are_named(tmp_path, changes, message):
    with pytest.raises(PlanError, match=message):
        expand(load(Sweep, write(tmp_path, **changes)))


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(PlanError, match=r"missing.yaml cannot be read"):
        load(Sweep, tmp_path / "missing.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(PlanError, match=r"list.yaml must be a mapping"):
        load(Sweep, tmp_path / "list.yaml")


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_our_sweeps_can_be_planned(file, tmp_path):
    sweep = load(Sweep, file)
    jobs = expand(sweep if file.stem == "smoke" else with_roots(sweep, [make_categories(tmp_path, "tile")]))
    assert len(jobs) >= 12
    assert sum("anomalib_plus.models" in job.model["class_path"] for job in jobs) >= 2


def test_both_draems_of_a_sweep_differ_in_the_loss_only():
    for file in SWEEPS:
        pairs = [model for model in load(Sweep, file).models if model.label == "DRAEM"]
        arguments = [{**model.init_args, "repaired": None} for model in pairs]
        assert len({model.class_path for model in pairs}) <= 1
        assert arguments == arguments[:1] * len(arguments)
        assert [model.init_args["repaired"] for model in pairs] in ([], [True], [False, True])
