"""Readers and writers of file formats. A file may come from anywhere, so each reader limits the memory and time that a
file can take.
"""
