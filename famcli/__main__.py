"""`python -m famcli` is the `famcli` command."""

from famcli.cli.main import main

if __name__ == "__main__":
    main()
