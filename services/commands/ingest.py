"""`ragmesh ingest`: files and folders into a collection."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import FailedPrecondition, InvalidField
from services.commands import ingest_sync as syncing
from services.commands import options
from services.commands.connect import find_address
from services.commands.ingest_files import Found, find, in_thread, shown
from services.commands.ingest_plan import deletes_many
from services.commands.ingest_ray import (
    IN_FLIGHT_MAX,
    Cluster,
    RayActors,
    RayCpus,
    RayGpus,
    RayHead,
    beside,
    on_cluster,
)
from services.commands.ingest_sending import changed_item
from services.commands.ingest_shown import Lines, Picture, Tally, print_left_out, speed
from services.commands.ingestion import Ingestion, Item
from services.commands.output import print_json, stderr, stdout

if TYPE_CHECKING:
    from ragmesh import AsyncClient
    from rich.console import Console

PLACES_SHOWN_MAX = 20
SIGNS = {"add": "+", "move": ">", "replace": "~", "again": "!", "delete": "-"}


def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Files, and folders with all below them.")],
    collection: options.Collection,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Ingest a new version of what is there and has changed."),
    ] = False,
    sync: Annotated[
        bool,
        typer.Option(
            "--sync", help="Mirror one folder: new, changed, moved and deleted files of it."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --sync: only say what would be done.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="With --sync: do not ask before deleting many.")
    ] = False,
    allow_empty: Annotated[
        bool,
        typer.Option(
            "--allow-empty", help="With --sync: the folder is really empty or gone; delete all."
        ),
    ] = False,
    record: Annotated[
        Path | None, typer.Option("--record", help="Also draw what is shown, as an SVG file.")
    ] = None,
    ray: RayHead = "",
    ray_actors: RayActors = 4,
    ray_cpus: RayCpus = 1.0,
    ray_gpus: RayGpus = 0.0,
    postgres_url: options.PostgresUrl = None,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Ingest documents of any kind that is known, and wait until they can be searched.

    A file is known by its path: one that is there already is skipped. With --json, a line for each
    step, and a last one for all. Exits with 1 if a file failed.
    """
    _check(paths, sync, (dry_run, yes, allow_empty))
    cluster = on_cluster(
        ray, ray_actors, ray_cpus, ray_gpus, postgres_url=postgres_url, data_dir=data_dir
    )
    run = _Run(find_address(address, data_dir), collection, json, cluster)
    try:
        if sync:
            asyncio.run(run.sync(paths[0], dry_run=dry_run, yes=yes, allow_empty=allow_empty))
        else:
            asyncio.run(run.ingest(paths, replace))
    except KeyboardInterrupt:
        run.report_interrupted()
        raise
    if not dry_run:
        run.report()
    if record:
        run.draw(record)
    if run.tally.counts["failed"]:
        raise typer.Exit(1)


class _Run:
    """One ingestion, and what is told of it."""

    def __init__(
        self, address: str, collection: str, as_json: bool, cluster: Cluster | None
    ) -> None:
        self._address = address
        self._cluster = cluster
        self._collection = collection
        self._as_json = as_json
        self.tally = Tally()
        self._ingestion: Ingestion | None = None
        self._made = False
        self._synced: dict[str, int] = {}

    async def ingest(self, paths: list[Path], replace: bool) -> None:
        """Send what is not there yet, or has changed."""
        from ragmesh import AsyncClient

        with stderr().status("looking for files …"):
            found = await in_thread(partial(find, paths))
        async with AsyncClient(self._address, lane="bulk") as client:
            await self._make_collection(client)
            self._begin(found, list(found.files))
            try:
                self._ingestion = Ingestion(client, self.tally, collection=self._collection)
                await self._ingest(
                    changed_item(self._collection, file, replace=replace)
                    for file in found.files.values()
                )
            finally:
                self.tally.close()

    async def sync(self, folder: Path, *, dry_run: bool, yes: bool, allow_empty: bool) -> None:
        """Make the collection mirror the folder."""
        from ragmesh import AsyncClient

        async with AsyncClient(self._address, lane="bulk") as client:
            with stderr().status("comparing the folder with the collection …"):
                plan = await syncing.make_plan(
                    client, self._collection, folder, allow_empty=allow_empty
                )
            if dry_run:
                self._say_plan(plan)
                return
            if deletes_many(plan.actions, plan.there) and not yes:
                self._ask(plan)
            await self._make_collection(client)
            self._begin(plan.found, [action.place for action in plan.work])
            try:
                moved = syncing.Moved(self.tally, plan)
                self._ingestion = Ingestion(client, moved, collection=self._collection)
                await self._ingest(syncing.items_of(self._collection, plan))
                deleted = await syncing.clear_away(client, self._collection, plan, moved)
            finally:
                self.tally.close()
            self._synced = {
                "moved": len(moved.arrived),
                "deleted": deleted - len(moved.arrived),
                "unchanged": plan.counts["keep"],
            }

    async def _ingest(self, items: Iterable[Item]) -> None:
        assert self._ingestion is not None
        if self._cluster is None:
            await self._ingestion.run(items)
            return
        work = self._ingestion.run(items, in_flight_max=IN_FLIGHT_MAX)
        await beside(work, self._cluster, self._collection)

    async def _make_collection(self, client: AsyncClient) -> None:
        from ragmesh import CollectionNotFound

        try:
            await client.get_collection(self._collection)
        except CollectionNotFound:
            await client.create_collection(self._collection)
            self._made = True
            if not self._as_json:
                stderr().print(f"made the collection [bold]{self._collection}[/]")

    def _begin(self, found: Found, places: list[str]) -> None:
        files = [found.files[place] for place in places]
        kind = Lines if self._as_json else Picture
        self.tally = kind(len(files), sum(file.size_bytes for file in files))
        for outcome in found.left_out:
            self.tally.ended(outcome)

    def _ask(self, plan: syncing.Plan) -> None:
        count = plan.counts["delete"]
        said = (
            f"{count:,} of {plan.there:,} documents would be deleted, because their files are not "
            f"in {plan.root} any more"
        )
        if self._as_json or not sys.stdin.isatty():
            raise FailedPrecondition(
                f"{said}: look at it with --dry-run, and say --yes if it is right",
                metadata={"path": plan.root, "deletions": count, "documents": plan.there},
            )
        stderr().print(f"{said}.")
        typer.confirm("Delete them?", abort=True, err=True)

    def _say_plan(self, plan: syncing.Plan) -> None:
        counts = {deed: plan.counts[deed] for deed in (*SIGNS, "keep")}
        if self._as_json:
            for action in plan.actions:
                if action.deed != "keep":
                    line = {"event": "plan", "deed": action.deed, "file": shown(action.place)}
                    print_json(line | ({"before": shown(action.before)} if action.before else {}))
            print_json({"event": "planned", **counts, "left_out": len(plan.found.left_out)})
            return
        console = stdout()
        for deed, sign in SIGNS.items():
            actions = [action for action in plan.actions if action.deed == deed]
            for action in actions[:PLACES_SHOWN_MAX]:
                before = f"{shown(action.before)} → " if action.before else ""
                console.print(f"{sign} {before}{shown(action.place)}", markup=False, soft_wrap=True)
            if len(actions) > PLACES_SHOWN_MAX:
                console.print(f"{sign} … and {len(actions) - PLACES_SHOWN_MAX:,} more")
        console.print(
            f"would add {counts['add']:,}, move {counts['move']:,}, replace "
            f"{counts['replace']:,}, try {counts['again']:,} again, delete {counts['delete']:,} "
            f"and keep {counts['keep']:,}; nothing was done"
        )

    def draw(self, path: Path) -> None:
        """Draw what was shown, as a picture for a page."""
        from services.commands.ingest_recorded import Recording

        recording = Recording(" ".join(["ragmesh", *sys.argv[1:]]))
        recording.show(getattr(self.tally, "middle", None))
        self._print(recording.console)
        recording.save(path)

    def report(self) -> None:
        """Say how it went."""
        tally, counts = self.tally, self.tally.counts
        if self._as_json:
            summary = {name: counts[name] for name in ("ingested", "skipped", "failed")}
            print_json(
                {
                    "event": "done",
                    "collection": self._collection,
                    "collection_made": self._made,
                    **summary,
                    "unchanged": counts["unchanged"],
                    **self._synced,
                    "passages": tally.passages,
                    "seconds": round(tally.seconds, 3),
                }
            )
            return
        self._print(stdout())

    def _print(self, console: Console) -> None:
        tally, counts = self.tally, self.tally.counts
        if tally.outcomes:
            among = counts["skipped"] + counts["failed"] - counts["unchanged"]
            print_left_out(console, tally.outcomes, among)
        if not (counts.total() or self._synced):
            console.print("There is no file below what you named.")
            return
        synced = "".join(f", {count:,} {name}" for name, count in self._synced.items())
        pace = tally.pace
        console.print(
            f"[bold]{counts['ingested']:,}[/] ingested ({tally.passages:,} passages), "
            f"{counts['skipped']:,} skipped, {counts['failed']:,} failed{synced} "
            f"in {tally.seconds:.1f} s"
        )
        if counts["ingested"]:
            console.print(f"[dim]{speed(pace)}[/]")
            console.print(f"Next: ragmesh ask QUESTION --collection {self._collection}")

    def report_interrupted(self) -> None:
        """Say what goes on although nobody waits for it any more."""
        ended = self.tally.counts["ingested"]
        going = len(self._ingestion.in_flight) if self._ingestion else 0
        if self._as_json:
            print_json({"event": "interrupted", "ingested": ended, "in_flight": going})
            return
        told = f"interrupted after {ended:,} files"
        if going:
            told += (
                f"; {going:,} more were sent and are ingested all the same: `ragmesh documents "
                f"list -c {self._collection} --state ingesting` shows them, `ragmesh documents "
                f"cancel -c {self._collection} --all` ends them"
            )
        stderr().print(f"{told}. The same command goes on where this one stopped.")


def _check(paths: list[Path], sync: bool, only_for_sync: tuple[bool, ...]) -> None:
    """Raises InvalidField where what was asked for does not fit together."""
    if any(only_for_sync) and not sync:
        raise InvalidField("--dry-run, --yes and --allow-empty are for --sync", field="sync")
    if not sync:
        missing = [path for path in paths if not path.exists()]
        if missing:
            raise InvalidField(
                f"{shown(str(missing[0]))} does not exist",
                field="paths",
                metadata={"path": shown(str(missing[0]))},
            )
    elif len(paths) != 1 or (paths[0].exists() and not paths[0].is_dir()):
        raise InvalidField("--sync mirrors one folder: name one, and no file", field="paths")
