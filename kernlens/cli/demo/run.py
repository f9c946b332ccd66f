"""Runs the demo."""

from typing import Any

from kernlens import files, targets
from kernlens.cli.demo.grid import Found, grid
from kernlens.cli.demo.report import show, write
from kernlens.cli.demo.story import agreement_line, conclusion, failure_line
from kernlens.cli.options.demo import Demo, Task, command_of
from kernlens.show import page, report


def run(config: Demo, task: Task) -> dict[str, Any]:
    """Runs the demo and writes its report.

    Args:
      config: what to run.
      task: its data.

    Returns:
      The content of results.json.

    Raises:
      ValueError, OSError: the folder cannot be used.
    """
    console, data = report.console(), task.data
    num_items = len(targets.labelled_rows(task.labels))
    console.print(
        f"{config.data}: {len(data.items):,} interactions, {data.num_sessions:,} sessions, "
        f"{data.num_items:,} items; task: {config.label}, {len(task.labels.names)} classes, "
        f"{num_items:,} items"
    )
    config.out.mkdir(parents=True, exist_ok=True)
    with files.held("--out", config.out):
        files.clean(config.out)
        found_of: dict[str, Found] = {}
        rows = grid(config, task, found_of)
        found = {
            "command": command_of(config),
            "config": config,
            "num_items": num_items,
            "classes": task.labels.names,
            "conclusion": conclusion(rows),
            "agreement": agreement_line(rows),
            "failure": failure_line(rows, "LR"),
            "rows": rows,
        }
        write(config, found, console)
        items = data.item_keys[targets.labelled_rows(task.labels)]
        page.write_page(config.out / "index.html", show(config, found, found_of, items))
        console.print(f"wrote {config.out}/index.html, figure.png, table.txt, results.json")
    return report.to_json(found)
