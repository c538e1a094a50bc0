"""One command that makes the table: every row of a plan trained, heard, scored and put on a page."""

from separative.benchmark.plan import Plan, load_plan, plan_names
from separative.benchmark.render import render
from separative.benchmark.run import benchmark

__all__ = ["Plan", "benchmark", "load_plan", "plan_names", "render"]
