"""For those who build famcli: generated pages, reports of training runs, facts about the code."""
