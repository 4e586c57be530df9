"""Runs the examples of all docstrings, with nothing but the standard library: for Pythons that have only the wheel."""

from __future__ import annotations

import doctest
import inspect
import sys

import libmq
import libmq.aio
import libmq.nsq
import libmq.testing

attempted = failed = 0
for module in (libmq, libmq.aio, libmq.nsq, libmq.testing):
    things = [module, *(getattr(module, name) for name in module.__all__)]
    members = [member for thing in things if inspect.isclass(thing) for member in vars(thing).values()]
    for thing in things + [member for member in members if inspect.isroutine(member)]:
        text = inspect.getdoc(thing) or ""
        test = doctest.DocTestParser().get_doctest(text, {}, repr(thing), None, None)
        results = doctest.DocTestRunner().run(test)
        attempted += results.attempted
        failed += results.failed
print(f"{attempted} lines of examples on Python {sys.version.split()[0]}, {failed} failed")
# Fewer would say that the examples were not found.
sys.exit(failed > 0 or attempted < 200)
