"""Inspecting a data set: which format it has, and what is wrong with which row."""
