"""Named cases, unique topics and waits with a limit."""

import itertools
import os
import queue
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

# How long anything may take that must happen. Generous: it only shows when it fails.
LIMIT_S = 10.0

V31, V311, V5 = 3, 4, 5
VERSION_NAMES = {V31: "3.1", V311: "3.1.1", V5: "5.0"}

_numbers = itertools.count(1)
_run = f"{os.getpid():x}"
_cases = []


class Failed(Exception):
    """What a case says when the broker did not do what it should."""


class Skipped(Exception):
    """What a case says when the broker announces that it does not have the feature."""


@dataclass(frozen=True)
class Message:
    """A message as a subscriber saw it."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: object = None


@dataclass(frozen=True)
class Broker:
    """Where the broker under test is."""

    host: str
    port: int
    # Who has issued the broker's certificate; None is no TLS.
    cafile: str | None = None
    websocket: bool = False


def unique(prefix="t"):
    """A name that no other case and no other run uses; short enough for a 3.1 client id."""
    return f"{prefix}{_run}x{next(_numbers)}"


def check(condition, why):
    if not condition:
        raise Failed(why)


def equal(actual, expected, what):
    if actual != expected:
        raise Failed(f"{what}: expected {shorten(expected)}, got {shorten(actual)}")


def shorten(value):
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:297]}..."


def pause(seconds):
    """Lets time pass where the passing of time is what the case is about."""
    threading.Event().wait(seconds)


class Inbox:
    """Messages in the order in which they came."""

    def __init__(self):
        self._queue = queue.Queue()

    def put(self, message):
        self._queue.put(message)

    def take(self, count, what="messages"):
        """The next `count` messages, within the limit."""
        taken = []
        end = time.monotonic() + LIMIT_S
        while len(taken) < count:
            try:
                taken.append(self._queue.get(timeout=max(0.0, end - time.monotonic())))
            except queue.Empty:
                got = [message.payload[:20] for message in taken[-3:]]
                raise Failed(f"{len(taken)} of {count} {what} came, the last {got}") from None
        return taken

    def take_until(self, payload):
        """All messages before the first with this payload, within the limit."""
        taken = []
        while True:
            message = self.take(1, f"messages (waiting for {payload!r}) after {len(taken)}")[0]
            if message.payload == payload:
                return taken
            taken.append(message)


def case(*parameters):
    """Registers a function as a case, or as one case for each tuple of parameters.

    A parameter that has a `name` shows with that in the name of the case.
    """

    def register(function):
        for values in parameters or [()]:
            labels = [getattr(value, "name", None) or VERSION_NAMES.get(value, str(value))
                      for value in values]
            name = " ".join([function.__name__.replace("_", "-"), *labels])
            _cases.append((name, function, values))
        return function

    return register


def _run_one(broker, function, values):
    try:
        function(broker, *values)
    except Skipped as why:
        return True, f" ({why})"
    except Failed as why:
        return False, f": {why}"
    except Exception as error:  # A client that gives up is a failure of the case, too.
        where = traceback.extract_tb(error.__traceback__)[-1]
        return False, f": {type(error).__name__}: {error} ({where.name}:{where.lineno})"
    return True, ""


def run(broker, pattern, jobs):
    """Runs the cases whose name contains the pattern; the number of those that failed."""
    chosen = [entry for entry in _cases if pattern in entry[0]]
    failed = 0
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        results = [pool.submit(_run_one, broker, function, values)
                   for _, function, values in chosen]
        for (name, _, _), result in zip(chosen, results):
            fine, detail = result.result()
            failed += not fine
            print(f"{'ok' if fine else 'FAILED'} {name}{detail}", flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed", flush=True)
    return failed if chosen else 1
