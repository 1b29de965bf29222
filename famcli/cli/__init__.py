"""The command line: one file per command, which parses, calls a task, shows its result and exits."""
