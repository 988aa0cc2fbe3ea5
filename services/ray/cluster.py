"""What we say to Ray, in calls that block; they raise one of FAILURES where Ray does not do it.

Applications of Serve are ours by name: `ragmesh-<deployment>-<session>-<placement>`. Others on the
same cluster are left alone.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from engine.errors import ServiceUnavailable
from services.config import Settings, to_environment
from services.local.placement import SURGE_PERCENT, Placement
from services.ray import policy
from services.ray.records import About
from services.ray.replica import NodePlan, NodeReplica

_STATUS_PAUSE_S = 0.1
_TASK_START_S = 10.0
_HEALTH_PERIOD_S = 1.0
"""Three failures in a row, and Serve replaces a replica."""
_HEALTH_TIMEOUT_S = 5.0
_NO_PROXY = "Disabled"

FAILURES = (RayError, RayServeException, RuntimeError, ConnectionError, ValueError)
"""What Ray's calls raise where the cluster refuses us or is lost."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The nodes of one `ragmesh up`, in the state after so many rolls."""

    deployment: str
    session: str
    settings: Settings
    placements: tuple[Placement, ...]

    def application(self, placement: Placement) -> str:
        """What Serve calls its nodes."""
        return f"ragmesh-{self.deployment}-{self.session}-{placement.name}"

    def is_ours(self, application: str) -> bool:
        """Whether an application is of this deployment, of whichever session."""
        return application.startswith(f"ragmesh-{self.deployment}-")


def connect(address: str) -> None:
    """Join the cluster at `host:port` as a driver, and start Serve there where it does not run."""
    ray.init(address=address, namespace="ragmesh", log_to_driver=False, configure_logging=False)
    serve.start(proxy_location=_NO_PROXY)


def deploy(wanted: Wanted, roll: int, *, anew: bool) -> None:
    """Say what is wanted; Serve brings it about. What is there stays as it is unless `anew`: then
    every node gets a successor. What an earlier session left goes."""
    present = serve.status().applications
    names = {wanted.application(placement): placement for placement in wanted.placements}
    for name in present:
        if wanted.is_ours(name) and name not in names:
            serve.delete(name, _blocking=False)
    targets = [
        serve.RunTarget(_deployment(wanted, placement, roll), name=name, route_prefix=None)
        for name, placement in names.items()
        if anew or name not in present
    ]
    if targets:
        serve.run_many(
            targets,
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )


def until_running(wanted: Wanted, within_s: float) -> None:
    """Wait until every node wanted serves, and none that it replaces. Raises ServiceUnavailable
    with what Serve says."""
    deadline_s = time.monotonic() + within_s
    while True:
        troubles = _troubles(wanted)
        if not troubles:
            return
        failed = [text for status, text in troubles if status == ApplicationStatus.DEPLOY_FAILED]
        if failed or time.monotonic() > deadline_s:
            said = "; ".join(failed or [text for _, text in troubles])
            raise ServiceUnavailable(
                f"the nodes on Ray do not serve: {said}",
                metadata={"problem": said},
            )
        time.sleep(_STATUS_PAUSE_S)


def is_settled(wanted: Wanted) -> bool:
    """Whether every node wanted serves now."""
    return not _troubles(wanted)


def delete(wanted: Wanted) -> None:
    """Drain and stop all our nodes; returns when Serve has none of them."""
    for name in serve.status().applications:
        if wanted.is_ours(name):
            serve.delete(name, _blocking=False)
    while any(map(wanted.is_ours, serve.status().applications)):
        time.sleep(_STATUS_PAUSE_S)


def on_every_machine(wanted: Wanted, work: Callable[[str, str, str, float], None]) -> None:
    """Do `sweep` or `close` on each machine of the cluster, and wait for them."""
    settings = wanted.settings
    grace_s = settings.node.drain_grace_s + 5.0
    run = ray.remote(num_cpus=0, max_retries=0)(work)
    tasks = [
        run.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(machine["NodeID"], soft=False)
        ).remote(str(settings.data_dir), wanted.deployment, wanted.session, grace_s)
        for machine in ray.nodes()  # type: ignore[no-untyped-call]
        if machine["Alive"]
    ]
    ray.wait(tasks, num_returns=len(tasks), timeout=grace_s + _TASK_START_S)


def leave() -> None:
    """Leave the cluster; Serve itself ends where nobody else has an application on it."""
    if not serve.status().applications:
        serve.shutdown()  # type: ignore[no-untyped-call]
    ray.shutdown()


def _troubles(wanted: Wanted) -> Sequence[tuple[ApplicationStatus, str]]:
    """What keeps each application from being as wanted; empty where nothing does."""
    found = serve.status().applications
    troubles = []
    for placement in wanted.placements:
        name = wanted.application(placement)
        if name not in found:
            troubles.append((ApplicationStatus.NOT_STARTED, f"{name} is not there"))
            continue
        application = found[name]
        said = [application.message]
        states: Counter[str] = Counter()
        for deployment in application.deployments.values():
            said.append(deployment.message)
            states.update(deployment.replica_states)
        if application.status != ApplicationStatus.RUNNING or set(states) - {"RUNNING"}:
            text = " ".join(_brief(one) for one in said if one)
            counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
            troubles.append((application.status, f"{placement.name} ({counts}) {text}".strip()))
    return troubles


def _brief(message: str) -> str:
    """What Serve says without the stack of its workers: its own sentence, and the last error with
    what is indented below it."""
    lines = re.sub(r"\x1b\[\d*m", "", message).splitlines()
    if "Traceback" not in message:
        return "\n".join(lines)
    last = max(number for number, line in enumerate(lines) if not line.startswith(" "))
    return "\n".join([lines[0], *lines[last:]])


def _deployment(wanted: Wanted, placement: Placement, roll: int) -> serve.Application:
    settings = wanted.settings
    node = settings.node.model_copy(update={"services": placement.services})
    plan = NodePlan(
        wanted.deployment,
        About(placement.name, wanted.session, roll),
        str(settings.data_dir),
        settings.node.drain_grace_s,
        placement.cpus,
        to_environment(settings.model_copy(update={"node": node})),
    )
    fixed = placement.replicas_min == placement.replicas_max
    deployment: Any = serve.deployment(
        name=placement.name,
        num_replicas=placement.replicas_min if fixed else None,
        autoscaling_config=None if fixed else _autoscaling(placement),
        ray_actor_options={"num_cpus": placement.cpus, "num_gpus": placement.gpus},
        # A GPU is rarely free for one more: there, a node goes before its successor comes.
        max_surge_percent=0 if placement.gpus else SURGE_PERCENT,
        health_check_period_s=_HEALTH_PERIOD_S,
        health_check_timeout_s=_HEALTH_TIMEOUT_S,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=settings.node.drain_grace_s + 15.0,
    )(NodeReplica)
    application: serve.Application = deployment.bind(plan)
    return application


def _autoscaling(placement: Placement) -> AutoscalingConfig:
    return AutoscalingConfig(
        min_replicas=placement.replicas_min,
        max_replicas=placement.replicas_max,
        metrics_interval_s=policy.METRICS_INTERVAL_S,
        look_back_period_s=policy.METRICS_INTERVAL_S * 2,
        upscale_delay_s=policy.UPSCALE_DELAY_S,
        downscale_delay_s=policy.DOWNSCALE_DELAY_S,
        policy=AutoscalingPolicy(  # type: ignore[no-untyped-call]
            policy_function=f"{policy.__name__}:policy"
        ),
    )
