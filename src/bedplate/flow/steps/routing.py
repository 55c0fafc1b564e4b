"""The endpoint step where there are several replicas, or versions take over by steps: a router, and the replicas of one version.

Requests are answered in the main thread's event loop; everything else (keeping replicas, scaling, the rollout, the public port, answers to
the lake) is decided in one other thread, several times a second, by pure functions of what the router counted.
Does not know: what a replica answers (`steps.endpoint`), when a share changes (`serve.rollout`), how many there are (`serve.autoscale`).
"""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from bedplate.core.atomic import write_json
from bedplate.core.attempt import Attempt
from bedplate.core.errors import BedplateError, Busy
from bedplate.core.spec import Rollout
from bedplate.flow.answers import answers_table
from bedplate.flow.steps.context import StepContext
from bedplate.flow.steps.handover import Doors
from bedplate.flow.steps.serving import bind_kept, declared, drain, limits, port_file
from bedplate.serve.answers import TALLY_FILE, lost_answers, settle
from bedplate.serve.asgi import Guard, loopback_only
from bedplate.serve.autoscale import Load, wanted
from bedplate.serve.door import Door
from bedplate.serve.listen import bind
from bedplate.serve.metrics import Count
from bedplate.serve.replicas import Keeper, Replica
from bedplate.serve.rollout import Seen, Stage, advanced, begun
from bedplate.serve.router import BEFORE, OWN, Backend, Router, Share
from bedplate.serve.upstream import Upstream

TICK_S = 0.05
SCALE_S = 0.5
WINDOW_S = 5.0  # of load; long enough for a mean, short enough to follow a burst
SLOW_WINDOW_S = 30.0  # of the slowest percent
DRAIN_S = 1.0
START_S = 600.0
BACK_S = 5.0  # how long the version before may take to open the public port again
LEAVE_S = 0.5  # for clients of the port that is given up to ask once more, and be told
ENTRY = "bedplate.flow.replica"
_LOG = logging.getLogger("bedplate.endpoint")


def work(attempt: Attempt) -> int:
    """Serve until told to stop; requests under way are answered first. Returns 0; raises BedplateError when no replica ever answers."""
    routing = Routing(StepContext(attempt))
    routing.await_first()
    return routing.serve()


class Routing:
    """One life of a router and what it keeps."""

    def __init__(self, step: StepContext) -> None:
        """Nothing is started."""
        self._step = step
        attempt = step.attempt
        self._declared = declared(attempt)
        self._run = attempt.run
        self._model = step.version(attempt.spec["model"])
        bounds, guard = limits(step)
        guards: list[Guard] = [loopback_only, *([guard] if guard else [])]
        self._router = Router(attempt.step, self._model.ref, guards, hold=bounds.queue, deadline_s=bounds.deadline_s)
        self._keeper = Keeper(self._start, self._port, lambda one: self._backends[one].in_flight if one in self._backends else 0)
        self._keeper.wanted = max(1, self._declared.scaling.min)
        self._backends: dict[Replica, Backend] = {}
        self._before: Backend | None = None
        self._doors = Doors(step.state / "endpoints", attempt.step)
        self._inner = bind(0)
        self._past: tuple[tuple[float, int], ...] = ()
        self._deaths = 0
        self._ending = threading.Event()
        self._is_open = True
        self._leaving = False
        self._drained = 0
        self._public: int = 0
        self._stage: Stage | None = None
        self._door: Door

    # -- its life -----------------------------------------------------------------------------------------------------------------

    def await_first(self) -> None:
        """Wait until a replica answers. Raises BedplateError when none does."""
        end_s = time.monotonic() + START_S
        while not self._keeper.ready:
            self._keeper.tick()
            if self._keeper.hopeless or time.monotonic() > end_s:
                self._keeper.close()
                fix = f"see `bedplate logs {self._run}`"
                raise BedplateError("no replica of the endpoint came to answer", value=self._keeper.deaths, fix=fix)
            time.sleep(TICK_S)

    def serve(self) -> int:
        """Open the ports and serve until told to stop."""
        keeping = threading.Thread(target=self._keep, name="keep")

        def ready(port: int) -> None:
            self._public = port
            self._open_rollout()
            self._place()
            write_json(port_file(self._step), port)
            self._say()
            self._doors.give(self._run)
            self._step.journal.write("ready", port=port)
            keeping.start()

        self._door = Door(
            self._router,
            bind_kept(self._step),
            self._inner,
            on_ready=ready,
            on_leave=self._give_back,
            on_last=self._router.close,
            on_stop=self._ending.set,
        )
        self._door.serve_until_stopped()
        keeping.join()
        self._keeper.close()
        self._moved()
        self._settle()
        return 0

    def _settle(self) -> None:
        """Count the answers that replicas took with them which nobody replaced."""
        attempt = self._step.attempt
        stream = self._step.log(answers_table(attempt.step))
        for tally in attempt.out.glob(f"replica-*/{TALLY_FILE}"):
            settle(stream, f"{attempt.run}/{attempt.token}/{tally.parent.name.removeprefix('replica-')}", tally)

    def _keep(self) -> None:
        """The other thread."""
        every: list[tuple[float, Callable[[], None]]] = [
            (0.0, self._tick),
            (SCALE_S, self._scale),
            (SCALE_S / 2, self._mind_door),
            (DRAIN_S, self._moved),
        ]
        due = dict.fromkeys(range(len(every)), 0.0)
        while not self._ending.wait(TICK_S):
            for number, (span_s, act) in enumerate(every):
                if time.monotonic() >= due[number]:
                    due[number] = time.monotonic() + span_s
                    act()

    def _tick(self) -> None:
        self._keeper.tick()
        self._router.observe(time.time())
        if self._keeper.deaths > self._deaths:
            self._deaths = self._keeper.deaths
            self._step.journal.write("notice", failure="worker_lost", message=f"a replica ended; {len(self._keeper.ready)} answer")
        self._advance()
        self._call(self._place)

    def _call(self, act: Callable[..., None], *values: Any) -> None:
        if not self._ending.is_set():
            self._door.loop.call_soon_threadsafe(act, *values)

    def _say(self) -> None:
        inner = int(self._inner.getsockname()[1])
        self._doors.say(self._run, self._model.ref, self._step.attempt.token, inner, is_open=self._is_open)

    # -- replicas -----------------------------------------------------------------------------------------------------------------

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        (self._step.attempt.out / f"replica-{number}").mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", ENTRY, self._step.attempt.folder, str(number)]
        return subprocess.Popen(command, stdin=subprocess.PIPE)

    def _port(self, one: Replica) -> int:
        try:
            said = json.loads((self._step.attempt.out / f"replica-{one.number}" / "port.json").read_text())
        except FileNotFoundError:
            return 0
        return int(said["port"]) if said["pid"] == one.process.pid else 0

    def _place(self) -> None:
        """Tell the router whom to ask. In the event loop."""
        ready = self._keeper.ready
        self._backends = {one: self._backends.get(one) or Backend(f"{one.number}", OWN, Upstream(one.port)) for one in ready}
        backends = [*self._backends.values(), *([self._before] if self._before else [])]
        for backend in backends:
            backend.suspect = False  # its process lives, or it would not be here
        self._router.place(backends)

    def _scale(self) -> None:
        now_s, router = time.time(), self._router
        scale, ready = self._declared.scaling, len(self._keeper.ready)
        mean = router.mean_in_flight(now_s - WINDOW_S) if ready else float(router.under_way)
        load = Load(mean, router.total[OWN].latencies.p99_s(now_s - SLOW_WINDOW_S), router.asked_at_s, ready)
        found = wanted(scale, load, self._past, now_s)
        self._past = found.past
        count = max(1, found.replicas) if self._stage and self._stage.outcome == "open" else found.replicas
        if count != self._keeper.wanted:
            self._step.journal.write("message", text=f"{self._keeper.wanted} -> {count} replicas: {found.why}")
            self._keeper.wanted = count
        router.replicas_wanted = count
        router.retry_after_s = max(1, math.ceil(self._keeper.start_s))

    def _moved(self) -> None:
        """Move answers to the table, where there are new ones."""
        self._router.answers_lost = sum(map(lost_answers, self._step.attempt.out.glob(f"replica-*/{TALLY_FILE}")))
        told = sum(count.requests for count in self._router.total.values())
        if told == self._drained and not self._ending.is_set():
            return
        try:
            drain(self._step, answers_table(self._step.attempt.step))()
            self._drained = told
        except Exception as error:  # noqa: BLE001 - any failure of an ingest is reported, and the next drain takes what it left
            _LOG.error("answers: %r", error)

    # -- the version before -------------------------------------------------------------------------------------------------------

    def _open_rollout(self) -> None:
        """Begin a rollout, or go on with the one that this router was in when it died."""
        rollout, file = self._declared.rollout, self._step.attempt.out / "rollout.json"
        named = self._doors.holder()
        if rollout is None:
            return
        if file.exists():
            kept = json.loads(file.read_text())
            named, self._stage = kept.pop("before"), Stage(**kept)
        other = self._doors.router(named) if named and named != self._run else None
        if other is None or not other.alive:
            self._stage = None if self._stage is None else Stage(self._stage.step, time.time(), "done", "the version before is gone")
            return
        self._before = Backend(other.run, BEFORE, Upstream(other.inner))
        if self._stage is None:
            self._stage = begun(rollout, time.time())
            self._keep_stage(rollout, "began")
        self._share(rollout)

    def _advance(self) -> None:
        rollout, stage = self._declared.rollout, self._stage
        if rollout is None or stage is None or stage.outcome != "open":
            return
        count, now_s = self._router.step, time.time()
        seen = Seen(count.requests, count.errors, count.latencies.p99_s(stage.begun_at_s))
        self._stage = advanced(rollout, stage, seen, now_s)
        if self._stage != stage:
            self._keep_stage(rollout, "stepped" if self._stage.outcome == "open" else "ended")
            self._call(self._share, rollout)

    def _share(self, rollout: Rollout) -> None:
        """Tell the router the share of this step. In the event loop."""
        assert self._stage is not None
        self._router.step = Count()
        self._router.share = Share(self._stage.share(rollout), rollout.kind == "shadow" and self._stage.outcome == "open")

    def _keep_stage(self, rollout: Rollout, what: str) -> None:
        """Write the stage where a restart finds it, then tell it."""
        stage, before = self._stage, self._before
        assert stage is not None
        assert before is not None
        write_json(self._step.attempt.out / "rollout.json", {**stage.to_json(), "before": before.name})
        other = self._doors.router(before.name)
        told = {"before": before.name, "from": other.model if other else "", "to": self._model.ref, "kind": rollout.kind}
        share = round(stage.share(rollout), 6)
        self._step.journal.write("rollout", what=what, **told, step=stage.step + 1, share=share, outcome=stage.outcome, why=stage.why)

    # -- the public port ----------------------------------------------------------------------------------------------------------

    def _mind_door(self) -> None:
        """Give the public port up, or take it back; follow the version before to a new port of its own."""
        mine = self._doors.mine(self._run)
        if mine and not self._is_open:
            try:
                self._door.reopen(bind(self._public))
            except Busy as busy:
                _LOG.error("the port: %s", busy.one_line())
                return
            self._router.door = None
        elif not mine and self._is_open and not self._leaving:
            self._router.door = self._public
            self._door.shut()
        if mine != self._is_open and not self._leaving:
            self._is_open = mine
            self._say()
        if self._before is not None:
            other = self._doors.router(self._before.name)
            if other is None or not other.alive:
                self._before = None if self._stage is None or self._stage.outcome != "back" else self._before
            elif other.inner != self._before.upstream.port:
                self._before = Backend(other.run, BEFORE, Upstream(other.inner))

    def _give_back(self) -> None:
        """Before the end of a version that was taken back: let the one before open the public port, and wait until it did."""
        if self._before is None or self._stage is None or self._stage.outcome == "done":
            return
        self._leaving = True
        self._doors.give(self._before.name)
        end_s = time.monotonic() + BACK_S
        while time.monotonic() < end_s:
            other = self._doors.router(self._before.name)
            if other is None or not other.alive or other.open:
                break
            time.sleep(TICK_S)
        self._router.door = self._public  # who asks on a connection that is kept is told to connect to the other
        if self._is_open:
            self._door.shut()
        time.sleep(LEAVE_S)
