"""After networks of OpenVINO were freed, a signal must not end the process that runs the tests (see conftest.py)."""

import os
import signal
import subprocess
import sys
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


def test_a_signal_is_handled_after_networks_of_our_core_were_freed() -> None:
    """They share a plugin, which stays."""
    program = """
import os, signal
import numpy as np, openvino
from openvino import opset13
from anomalib_plus.deployment.openvino_core import openvino_core
signal.signal(signal.SIGUSR1, lambda *_: print("received"))
def compiled():
    images = opset13.parameter([1, 3, 8, 8], np.float32)
    return openvino_core().compile_model(openvino.Model([opset13.relu(images)], [images], "network"), "CPU")
first, second = compiled(), compiled()
del first
del second
os.kill(os.getpid(), signal.SIGUSR1)
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout == "received\n"
