"""Anomalib's list of model tests: which of our tests stand for an item, and what of it works in a release.

``.ci/conformance`` runs the tests and has this module turn pytest's JUnit files into a table.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

CLI = "contract/test_cli.py::"
CHECKPOINT = "contract/test_checkpoint.py::"
CONSTRUCTION = "contract/test_construction.py::"
EXPORT = "contract/test_export.py::"

ITEMS: dict[str, tuple[str, ...]] = {
    "engine: fit": ("contract/test_training.py::test_the_trainer_runs_as_long_as_its_user_says",),
    "engine: test": (f"{CHECKPOINT}test_engine_tests_the_checkpoint_it_is_given",),
    "engine: train": (f"{CHECKPOINT}test_engine_train_goes_on_from_the_checkpoint_it_is_given",),
    "engine: validate": (f"{CHECKPOINT}test_engine_validates_the_checkpoint_it_is_given",),
    "engine: predict": (
        "contract/test_prediction.py::test_predict_on_a_datamodule",
        "contract/test_prediction.py::test_predict_on_a_path",
    ),
    "engine: `from_config`": (
        f"{CLI}test_fit_and_the_configuration_it_saves",
        "contract/test_engine_forms.py::test_from_config_with_data_and_an_overriding_option",
    ),
    "engine: barebones": ("contract/test_engine_forms.py::test_barebones_trainer",),
    "command: fit": (f"{CLI}test_fit_and_the_configuration_it_saves",),
    "command: test": (f"{CLI}test_test_gives_the_metrics_of_the_checkpoint",),
    "command: train": (f"{CLI}test_train_fits_and_tests",),
    "command: validate": (f"{CLI}test_validate_measures_the_thresholds_of_the_checkpoint",),
    "command: predict on datamodule, folder, image": (f"{CLI}test_predict_draws_one_picture_per_image",),
    "export to torch": (f"{CLI}test_export_to_torch",),
    "export to ONNX": (f"{EXPORT}test_onnx_agrees_with_the_eager_model",),
    "export to OpenVINO": (f"{CLI}test_export_to_openvino", f"{EXPORT}test_openvino_agrees_with_the_eager_model"),
    "`TorchInferencer` and `OpenVINOInferencer`": (
        f"{EXPORT}test_inferencers_agree_with_the_eager_model_and_with_each_other",
    ),
    "`get_model` by name and `list_models`": (
        f"{CONSTRUCTION}test_anomalib_lists_the_model_because_it_is_a_direct_subclass",
        f"{CONSTRUCTION}test_get_model_by_name",
    ),
    "`get_model` by configuration": (
        f"{CONSTRUCTION}test_get_model_by_configuration",
        f"{CONSTRUCTION}test_get_model_by_class_path_and_keywords",
        f"{CONSTRUCTION}test_checkpoint_of_a_model_from_a_configuration_loads_with_weights_only",
    ),
    "model: `from_config`": (f"{CONSTRUCTION}test_from_config",),
    "`anomalib benchmark`": ("contract/test_pipelines.py::test_benchmark",),
    "tiled ensemble: train, predict, pictures, metrics": ("contract/test_pipelines.py::test_tiled_ensemble",),
    "pre-processing after a reload": (f"{CHECKPOINT}test_reload_gives_the_same_pre_processor",),
    "`weights_only` checkpoints": (
        f"{CHECKPOINT}test_reload_with_weights_only_gives_the_same_model",
        f"{CHECKPOINT}test_checkpoint_holds_nothing_but_tensors_and_plain_data",
    ),
    "pickle and copy": (f"{CHECKPOINT}test_a_trained_model_can_be_pickled_and_copied",),
    "finite scores": ("contract/test_numbers.py::test_scores_of_difficult_images_are_finite_and_in_the_unit_interval",),
    "AUROC beside scikit-learn's": (
        "contract/test_engine_forms.py::test_anomalib_measures_what_scikit_learn_measures",
    ),
    "two processes": ("contract/test_distributed.py::test_two_processes",),
    "batches of one": ("contract/test_training.py::test_small_batches_train",),
    "start-up hook": ("integration/test_packaging.py::test_plain_anomalib_knows_every_name",),
}
"""Names of the items, and the tests of each by their path below ``tests``."""


_EXPECTED_SKIPS = re.compile(r"\b(GPU|CUDA|Python 3)\b", re.IGNORECASE)
"""Reasons for which a test may be skipped. Any other could hide that an item was never tried."""


class Outcome(NamedTuple):
    """One test case: its path and name, the model (or "", where it concerns all), what it came to, and the error."""

    test: str
    model: str
    status: str
    error: str = ""


class Run(NamedTuple):
    """A column of the table: what was installed, whether our pin allows it, and how its tests ended.

    ``failure`` tells why there are no tests: the release or our package could not be installed, or not be imported.
    """

    title: str
    allowed: bool
    outcomes: Sequence[Outcome]
    failure: str = ""


def tests() -> list[str]:
    """All tests of the list, each once."""
    return list(dict.fromkeys(test for chosen in ITEMS.values() for test in chosen))


def _first_line(problem: ElementTree.Element) -> str:
    """What was raised: pytest marks it with an E in the traceback; collection errors have it nowhere else."""
    text = re.sub(r"#x1B\[\d*m", "", problem.text or "")  # how pytest writes the colours of a message
    raised = [line[2:].strip() for line in text.splitlines() if line.startswith("E ")]
    return next((line for line in [*raised, *problem.get("message", "").splitlines()] if line), problem.tag)


def read(junit: Path, models: Sequence[str]) -> list[Outcome]:
    """The test cases of pytest's JUnit file (``--junitxml``); one that was skipped without need counts as broken."""
    outcomes = []
    for case in ElementTree.parse(junit).iter("testcase"):
        path = (case.get("classname") or case.get("name", "")).removeprefix("tests.").replace(".", "/") + ".py"
        name, _, parameters = case.get("name", "").partition("[")
        model = next((part for part in parameters.rstrip("]").split("-") if part in models), "")
        outcome = Outcome(f"{path}::{name}" if case.get("classname") else path, model, "ok")
        for tag, status in (("skipped", "skipped"), ("failure", "broke"), ("error", "broke")):
            if (problem := case.find(tag)) is not None:
                outcome = outcome._replace(status=status, error=_first_line(problem))
        if outcome.status == "skipped" and not _EXPECTED_SKIPS.search(outcome.error):
            outcome = outcome._replace(status="broke", error=f"skipped: {outcome.error}")
        outcomes.append(outcome)
    return outcomes


def _outcome_of(outcomes: Sequence[Outcome]) -> str:
    """One word for test cases: the worst of them."""
    found = {outcome.status for outcome in outcomes}
    return next((status for status in ("broke", "skipped", "ok") if status in found), "did not run")


def results_of_item(run: Run, item: str, models: Sequence[str]) -> dict[str, str]:
    """What became of an item, by model: ``ok``, ``broke``, ``skipped`` or ``did not run``."""
    cases = [[outcome for outcome in run.outcomes if outcome.test == test] for test in ITEMS[item]]
    if any(found and not any(outcome.model for outcome in found) for found in cases):
        return dict.fromkeys(models, _outcome_of([outcome for found in cases for outcome in found]))
    results = {}
    for model in models:
        words = {_outcome_of([outcome for outcome in found if outcome.model == model]) for found in cases}
        results[model] = next(word for word in ("broke", "did not run", "skipped", "ok") if word in words)
    return results


def broke(run: Run, models: Sequence[str]) -> bool:
    """Whether our pin promises the release, and an item broke there or was not even reached.

    What only a GPU or another Python can run may be skipped.
    """
    results = [word for item in ITEMS for word in results_of_item(run, item, models).values()]
    return run.allowed and not set(results) <= {"ok", "skipped"}


def _cell(results: Mapping[str, str]) -> str:
    """``ok``, or the models by what became of them."""
    by_word = defaultdict(list)
    for model, word in results.items():
        by_word[word].append(model)
    if len(by_word) == 1:
        return next(iter(by_word))
    return "; ".join(f"{word}: {', '.join(names)}" for word, names in sorted(by_word.items()))


def _errors(run: Run) -> list[str]:
    """Each distinct error once, with the tests and models that met it."""
    met: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in run.outcomes:
        if outcome.status == "broke":
            met[outcome.error].append(outcome)
    lines = []
    for error, outcomes in sorted(met.items(), key=lambda entry: -len(entry[1])):
        names = ", ".join(dict.fromkeys(outcome.test.partition("::")[2] or outcome.test for outcome in outcomes))
        models = ", ".join(dict.fromkeys(outcome.model for outcome in outcomes if outcome.model)) or "no model"
        lines.append(f"- {len(outcomes)} x `{error[:200].replace('`', chr(39))}` ({models}): {names}")
    return lines


def markdown(runs: Sequence[Run], models: Sequence[str]) -> str:
    """The table, items by releases, and below it what broke where."""
    lines = [
        "| item | " + " | ".join(run.title for run in runs) + " |",
        "|---|" + "---|" * len(runs),
    ]
    for item in ITEMS:
        cells = ["unusable" if run.failure else _cell(results_of_item(run, item, models)) for run in runs]
        lines.append(f"| {item} | {' | '.join(cells)} |")
    counts = [defaultdict(int) for _ in runs]
    for count, run in zip(counts, runs, strict=True):
        for outcome in run.outcomes:
            count[outcome.status] += 1
    lines.append(
        "| test cases | "
        + " | ".join(", ".join(f"{count[word]} {word}" for word in sorted(count, reverse=True)) for count in counts)
        + " |"
    )
    for run in runs:
        if errors := ([f"- `{run.failure}`"] if run.failure else _errors(run)):
            lines += [
                "",
                f"What broke with {run.title}{'' if run.allowed else ', which the pin excludes'}:",
                "",
                *errors,
            ]
    return "\n".join(lines) + "\n"
