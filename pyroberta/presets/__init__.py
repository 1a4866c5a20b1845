"""Presets: names and directories, and the readers of their parts. To understand the code, read preset.py first, then
hf.py.
"""
