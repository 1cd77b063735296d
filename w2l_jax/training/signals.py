"""Stops on a signal without losing anything."""

import signal
import threading
from typing import Any


class Signals:
    """Records SIGINT and SIGTERM instead of ending the process, so that the loop can save first.

    Where `at_once` is set, as while nothing has been trained yet, they raise KeyboardInterrupt; so does a second one.
    """

    def __init__(self):
        self.received = ""
        self.at_once = False
        self._before: dict[int, Any] = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._remember)
        return self

    def _remember(self, number, _frame):
        again, self.received = self.received, signal.Signals(number).name
        if again or self.at_once:
            raise KeyboardInterrupt

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)
