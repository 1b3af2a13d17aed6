"""Mean and spread over seeds, for each category and over the categories of a data set."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from anomalib_plus.report.configurations import configuration_titles
from anomalib_plus.report.records import Record, Store, category, finite, part

_PREFERRED = "image_auroc"


@dataclass(frozen=True)
class Figure:
    """Mean and sample standard deviation (None for fewer than two seeds) over ``n`` seeds."""

    mean: float
    std: float | None
    n: int


class Summary:
    """Numbers of a store by data set, model, category and name of the metric or cost.

    Args:
        store: Content of the results folder.
        rank_by: Metric that ranks the models; by default image AUROC, or the first metric if it is missing.

    Raises:
        ValueError: If no record has the metric ``rank_by``.
    """

    def __init__(self, store: Store, rank_by: str | None = None) -> None:
        self.store = store
        self.titles: Mapping[str, str] = configuration_titles([*store.finished, *store.failed])
        rows = [row for record in store.finished for row in self._rows(record)]
        self.runs = pd.DataFrame(rows, columns=["data", "model", "category", "seed", "name", "kind", "value"])
        self.metrics = list(self._of_kind("metric")["name"].unique())
        self.costs = list(self._of_kind("cost")["name"].unique())
        if rank_by is not None and rank_by not in self.metrics:
            msg = f"no record has the metric {rank_by}; available: {', '.join(self.metrics) or 'none'}"
            raise ValueError(msg)
        first = _PREFERRED if _PREFERRED in self.metrics else next(iter(self.metrics), _PREFERRED)
        self.rank_by = rank_by or first

    def _rows(self, record: Record) -> list[tuple]:
        head = (record["data"]["label"], self.titles[record["job_id"]], category(record), str(record["seed"]))
        return [
            (*head, name, kind, number)
            for kind, values in (("metric", part(record, "metrics")), ("cost", part(record, "costs")))
            for name, value in values.items()
            if (number := finite(value)) is not None
        ]

    def _of_kind(self, kind: str) -> pd.DataFrame:
        return self.runs[self.runs["kind"] == kind]

    @property
    def records(self) -> list[Record]:
        """Finished and failed records."""
        return [*self.store.finished, *self.store.failed]

    @property
    def data_sets(self) -> list[str]:
        """Labels of the data sets, including those on which every job failed."""
        return list(dict.fromkeys(record["data"]["label"] for record in self.records))

    @cached_property
    def _categories(self) -> dict[str, set[str]]:
        return {
            data: {category(record) for record in self.records if record["data"]["label"] == data}
            for data in self.data_sets
        }

    def categories(self, data: str) -> list[str]:
        """Return the categories of a data set, in alphabetical order."""
        return sorted(self._categories[data])

    def models(self, data: str | None = None) -> list[str]:
        """Return the titles of the models of a data set, or of all, in the order of their records."""
        chosen = (record for record in self.records if data in {None, record["data"]["label"]})
        return list(dict.fromkeys(self.titles[record["job_id"]] for record in chosen))

    def of_model(self, records: Iterable[Record], model: str, data: str | None = None) -> list[Record]:
        """Select the records of a model, on one data set or on all."""
        of_data = (record for record in records if data in {None, record["data"]["label"]})
        return [record for record in of_data if self.titles[record["job_id"]] == model]

    def finished(self, data: str, model: str, of_category: str | None = None) -> list[Record]:
        """Return the finished jobs of a model on a data set, or on one of its categories, sorted by seed."""
        found = self.of_model(self.store.finished, model, data)
        matching = [record for record in found if of_category in {None, category(record)}]
        return sorted(matching, key=lambda record: (len(str(record["seed"])), str(record["seed"])))

    @cached_property
    def _by_category(self) -> dict[tuple[str, str, str, str], Figure]:
        grouped = self.runs.groupby(["data", "model", "category", "name"])["value"]
        table = grouped.agg(["mean", "std", "count"])
        return {key: _figure(*row) for key, row in zip(table.index, table.itertuples(index=False), strict=True)}

    def in_category(self, data: str, model: str, of_category: str, name: str) -> Figure | None:
        """Return a metric or cost on one category, over seeds."""
        return self._by_category.get((data, model, of_category, name))

    @cached_property
    def _by_seed(self) -> dict[tuple[str, str, str], pd.DataFrame]:
        """Values by data set, model and name; rows are seeds, columns categories."""
        groups = self.runs.groupby(["data", "model", "name"])
        return {key: group.pivot(index="seed", columns="category", values="value") for key, group in groups}

    def seed_averages(self, data: str, model: str, name: str) -> pd.Series:
        """Average a metric or cost over the model's categories, for each seed with all of them."""
        table = self._by_seed.get((data, model, name), pd.DataFrame())
        return table.dropna().mean(axis=1)

    @cached_property
    def _over_categories(self) -> dict[tuple[str, str, str], tuple[Figure, int]]:
        figures = {}
        for key, table in self._by_seed.items():
            of_seeds = self.seed_averages(*key)
            if of_seeds.empty:  # no seed has every category: a mean of the categories' means, without spread
                figure = Figure(float(table.mean().mean()), None, 0)
            else:
                figure = _figure(of_seeds.mean(), of_seeds.std(), len(of_seeds))
            figures[key] = (figure, table.shape[1])
        return figures

    def over_categories(self, data: str, model: str, name: str) -> tuple[Figure, int] | None:
        """Return a metric or cost averaged over the model's categories, and the number of these.

        Each seed with all these categories gives one average; mean and spread are those of the averages. If no seed has
        all of them, the mean is that of the categories' means, without spread and with ``n`` 0.
        """
        return self._over_categories.get((data, model, name))

    def over_all(self, data: str, model: str, name: str) -> Figure | None:
        """Return a metric or cost averaged over all categories of a data set; None if the model lacks one."""
        found = self.over_categories(data, model, name)
        return found[0] if found and found[1] == len(self._categories[data]) else None

    def ranking(self, data: str) -> list[tuple[int | None, str]]:
        """Return the models of a data set with their ranks, best first.

        Only models with the ranking metric on every category are ranked, because averages over different categories are
        not comparable; the others follow with rank None. Equal means share a rank.
        """
        figures = {model: self.over_categories(data, model, self.rank_by) for model in self.models(data)}
        means = {model: found[0].mean if found else float("-inf") for model, found in figures.items()}
        complete = {model: mean for model, mean in means.items() if self.over_all(data, model, self.rank_by)}
        order = sorted(complete, key=lambda model: -complete[model])
        rest = sorted(means.keys() - complete.keys(), key=lambda model: (-means[model], model))
        ranks = {model: 1 + sum(other > complete[model] for other in complete.values()) for model in order}
        return [(ranks[model], model) for model in order] + [(None, model) for model in rest]


def _figure(mean: float, std: float, n: float) -> Figure:
    return Figure(float(mean), float(std) if n > 1 else None, int(n))
