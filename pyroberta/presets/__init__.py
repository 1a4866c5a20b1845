"""Presets: names and directories, and the readers of their parts. Read preset.py, then hf.py."""
