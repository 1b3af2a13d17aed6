"""Changes to a sweep by options of the command line."""

import pytest

from anomalib_plus.benchmark.choices import with_budget, with_models, with_roots
from anomalib_plus.benchmark.folders import find_categories, folder_titles
from anomalib_plus.benchmark.plan import Budget, DataEntry, ModelEntry, Sweep, expand
from anomalib_plus.benchmark.schema import PlanError
from empty_layout import make_categories

SWEEP = Sweep(
    models=(ModelEntry("x.Ours"), ModelEntry("x.Theirs")),
    data=(DataEntry("x.Data"),),
    budget=Budget(max_epochs=1),
)
ONE_MODEL = Sweep(SWEEP.models[:1], SWEEP.data, budget=SWEEP.budget)


def places(sweep):
    return [(job.data["label"], job.data["category"]) for job in expand(sweep)]


def on(*entries):
    return Sweep(ONE_MODEL.models, entries, budget=ONE_MODEL.budget)


def test_other_roots_bring_their_categories_and_names(tmp_path):
    first, second = make_categories(tmp_path / "one", "tile", "wood"), make_categories(tmp_path / "two", "cube")
    (first / "notes").mkdir()
    assert find_categories(first) == ["tile", "wood"]
    assert places(with_roots(ONE_MODEL, [first, second])) == [("one", "tile"), ("one", "wood"), ("two", "cube")]
    assert places(with_roots(ONE_MODEL, [first, second], ["wood", "cube"])) == [("one", "wood"), ("two", "cube")]


def test_the_folder_names_the_data_whatever_the_plan_calls_them(tmp_path):
    root = make_categories(tmp_path / "mine", "tile")
    labelled = on(DataEntry("x.Data", label="MVTec AD"), DataEntry("x.Data", label="BTAD"))
    assert places(with_roots(labelled, [root, root])) == [("mine", "tile")]


def test_folders_of_one_name_have_their_parents_in_front_and_their_ids_as_before(tmp_path):
    roots = [make_categories(tmp_path / name, "tile") for name in ("a/mine", "b/mine", "c")]
    assert folder_titles(roots) == ["a/mine", "b/mine", "c"]
    together = expand(with_roots(ONE_MODEL, roots))
    alone = [expand(with_roots(ONE_MODEL, [root]))[0] for root in roots]
    assert [job.data["label"] for job in together] == ["a/mine", "b/mine", "c"]
    assert [job.data["label"] for job in alone] == ["mine", "mine", "c"]
    assert [job.job_id for job in together] == [job.job_id for job in alone]
    assert len({job.job_id for job in together}) == 3


@pytest.mark.parametrize(
    ("folder", "categories", "message"),
    [
        ("one", ["tile", "wod"], "There is no category wod; available: tile, wood"),
        ("other layout", ["03"], "There is no category 03; available: 01, 02"),
        ("empty", ["tile"], "There is no category tile; available: none"),
        ("nowhere", ["tile"], "There is no folder .*nowhere"),
        ("nowhere", None, "There is no folder .*nowhere"),
    ],
)
def test_a_missing_folder_or_category_is_named(tmp_path, folder, categories, message):
    make_categories(tmp_path / "one", "tile", "wood")
    (tmp_path / "empty").mkdir()
    for name in ("01", "02"):
        (tmp_path / "other layout" / name / "train" / "ok").mkdir(parents=True)
    with pytest.raises(PlanError, match=message):
        with_roots(ONE_MODEL, [tmp_path / folder], categories)


def test_categories_are_searched_in_folders_only(tmp_path):
    (tmp_path / "01" / "train" / "ok").mkdir(parents=True)
    root = {"root": str(tmp_path)}
    assert places(with_roots(on(DataEntry("x.BTAD", init_args=root)), [], ["01"])) == [("BTAD", "01")]
    drawn, digits = DataEntry("x.Drawn", ("brick",)), DataEntry("x.Digits", (3, 5), root, category_argument="digit")
    assert places(with_roots(on(drawn), [], ["gravel"])) == [("Drawn", "gravel")], "only the class knows"
    assert places(with_roots(on(drawn, digits), [], ["5", "gravel"])) == [("Drawn", "gravel"), ("Digits", "5")]
    (job,) = expand(with_roots(on(digits), [], ["5"]))
    assert job.data["arguments"]["digit"] == 5


def test_models_and_budget_can_be_chosen():
    assert [model.class_path for model in with_models(SWEEP, ["theirs"]).models] == ["x.Theirs"]
    with pytest.raises(PlanError, match="no model nobody; available: ours, theirs"):
        with_models(SWEEP, ["nobody"])
    assert with_budget(SWEEP, {"max_seconds": 9}).budget == Budget(max_seconds=9.0)
