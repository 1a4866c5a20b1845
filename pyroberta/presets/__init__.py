"""Presets: names and directories, and what can be read from them. Read registry.py, then hf.py."""
