"""The `famcli` command, which is `python -m famcli` too."""

import sys


def main() -> None:
    """Run the command line. Ctrl-C ends it silently even while its first modules load."""
    try:
        from famcli.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
