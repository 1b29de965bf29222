"""x"""

from __future__ import annotations
from famcli.cli.options import MachineOptions, OutputOptions, ReportOptions


def models(machine: MachineOptions, output: OutputOptions, report: ReportOptions) -> None:
    """List the checkpoints that can be named with --model."""
    print(machine, output.form)
