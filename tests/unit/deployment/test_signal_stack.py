"""After networks of OpenVINO were freed, a signal must not end the process that runs the tests (see conftest.py)."""

import os
import signal
from collections.abc import Callable

import numpy as np
import openvino
from openvino import opset13


def compiled() -> openvino.CompiledModel:
    """A network with a plugin of its own."""
    images = opset13.parameter([1, 3, 8, 8], np.float32)
    return openvino.Core().compile_model(openvino.Model([opset13.relu(images)], [images], "network"), "CPU")


def test_a_signal_is_handled_after_two_networks_were_freed(restore_signal_stack: Callable[[], None]) -> None:
    first, second = compiled(), compiled()
    del first
    del second  # now the stack for signals is the one that was freed with the first
    restore_signal_stack()
    received = []
    handler = signal.signal(signal.SIGUSR1, lambda *arguments: received.append(arguments))
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, handler)
    assert len(received) == 1
