"""How an instance is hurt, a line for each way in ROWS. Whatever is done is done to the first one."""

import signal
import time
from dataclasses import dataclass
from typing import Callable

# How long a service takes to start, in seconds.
PAUSE = 0.5


@dataclass(frozen=True)
class Hurt:
    """When it hurts, in seconds from the beginning of the load."""
    begin: float
    end: float

    @staticmethod
    def within(seconds):
        """From second 5 to 12 of 20."""
        return Hurt(seconds * 0.25, seconds * 0.6)


@dataclass(frozen=True)
class Row:
    """`steps(hurt, instances)` says what is done when: pairs of a second and what to call."""
    key: str
    name: str
    steps: Callable


def between(begin, end):
    """Done to the first instance when it begins to hurt, and when it ends."""
    return lambda hurt, instances: [(hurt.begin, lambda: begin(instances[0])), (hurt.end, lambda: end(instances[0]))]


def kill(instance):
    instance.app.kill()
    instance.proxy.kill()


def revive(instance):
    instance.app.start()
    instance.proxy.start()


def crashing(pause):
    """The app is killed each second and started again after the pause; its proxy stays."""
    def steps(hurt, instances):
        app, found = instances[0].app, []
        for number in range(int(hurt.end - hurt.begin)):
            found.append((hurt.begin + number, app.kill))
            found.append((hurt.begin + number + pause, app.start))
        return found
    return steps


def rolling(hurt, instances):
    """One app after the other is told to leave; when it has, it is started again after the pause."""
    def restart(app):
        app.leave()
        time.sleep(PAUSE)
        app.start()
    apart = (hurt.end - hurt.begin) / len(instances)
    return [(hurt.begin + number * apart, lambda app=one.app: restart(app)) for number, one in enumerate(instances)]


ROWS = [
    Row("killed", "app and proxy killed", between(kill, revive)),
    Row("app-paused", "app paused", between(lambda one: one.app.signal(signal.SIGSTOP),
                                            lambda one: one.app.signal(signal.SIGCONT))),
    Row("proxy-paused", "proxy paused", between(lambda one: one.proxy.signal(signal.SIGSTOP),
                                                lambda one: one.proxy.signal(signal.SIGCONT))),
    Row("slow", "app answers after 1 s", between(lambda one: one.app.signal(signal.SIGUSR1),
                                                 lambda one: one.app.signal(signal.SIGUSR2))),
    Row("crashing", "app killed each second, back at once", crashing(0)),
    Row("crashing-slowly", f"app killed each second, back after {PAUSE:g} s", crashing(PAUSE)),
    Row("rolling", f"rolling restart of all apps by SIGTERM, each back after {PAUSE:g} s", rolling),
]


def play(steps, begun):
    """Does each in its second; `begun` is the load's beginning by the monotonic clock."""
    for second, step in sorted(steps, key=lambda one: one[0]):
        time.sleep(max(0.0, begun + second - time.monotonic()))
        step()
