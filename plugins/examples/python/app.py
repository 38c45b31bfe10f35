"""Example plugin `machine-facts`: what the machine is, as JSON in `.config/cove/machine.json`."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import log
from wit_world.imports.types import Error

PATH = ".config/cove/machine.json"


class PrepareWorkDisk(exports.PrepareWorkDisk):
    """The hook point: componentize-py looks for a class of its name."""

    def run(self, machine, disk, files, git, settings, state):
        facts = {
            "name": machine.name(),
            "id": machine.id(),
            "image": machine.image(),
            "processors": machine.processors(),
            "memory_mib": machine.memory_mib(),
            "network": machine.network(),
            "labels": dict(machine.labels()),
            "workspace": machine.workspace(),
        }
        text = json.dumps(facts, indent=2) + "\n"
        try:
            disk.write_file(PATH, 0o644, text.encode())
        except Err as error:
            # An error of the host's, with what was being done in front.
            why = error.value
            raise Err(Error(why.code, f"writing {PATH}: {why.message}", why.retryable)) from None
        log.log(log.Level.INFO, f"{len(facts)} facts are in {PATH}")
