"""Presets: names and directories, and what can be read from them. Read preset.py, then hf.py."""
