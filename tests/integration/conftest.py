"""Commands of anomalib reconfigure logging for the whole process: undo that after each test."""

import logging
from collections.abc import Iterator

import pytest


def _loggers() -> list[logging.Logger]:
    return [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    handlers = {logger: list(logger.handlers) for logger in _loggers()}
    level = logging.root.level
    yield
    for logger in _loggers():
        logger.handlers = handlers.get(logger, [])
    logging.root.setLevel(level)
    logging.captureWarnings(False)
