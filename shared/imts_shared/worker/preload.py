"""Imported last by the process that children are forked from, after the engines; importing it has effects."""

from imts_shared.worker.child import prepare

prepare()
