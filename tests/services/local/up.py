"""A mesh of PostgreSQL and Redis in the directory given, until SIGTERM; one JSON object a line."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from engine.errors import RagmeshError
from services.local.directory import hold
from services.local.postgres import embedded_postgres
from services.local.redis import redis_part, redis_url
from services.local.supervisor import PartEvent, Supervisor


def say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def tell(event: PartEvent) -> None:
    say(name=event.name, kind=event.kind, pid=event.pid, detail=event.detail)


async def main(root: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with hold(root) as held:
        postgres = embedded_postgres(held.directory)
        parts = [postgres.part(), redis_part(held.directory)]
        supervisor = Supervisor(parts, on_event=tell)
        await supervisor.start()
        held.describe({"postgres": postgres.url})
        say(
            kind="up",
            url=postgres.url,
            admin_url=postgres.admin_url,
            redis_url=redis_url(held.directory),
            why=postgres.run_as.why,
        )
        await stop.wait()
        await supervisor.stop()


try:
    asyncio.run(main(Path(sys.argv[1])))
except RagmeshError as error:
    say(kind="failed", error=type(error).__name__, message=error.message)
    sys.exit(1)
