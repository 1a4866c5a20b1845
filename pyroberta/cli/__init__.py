"""The command line, `pyroberta`."""
