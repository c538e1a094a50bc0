"""Train, evaluate and compare all rows of a plan with one command."""

from separative.benchmark.plan import Plan, load_plan, plan_names
from separative.benchmark.render import render
from separative.benchmark.run import benchmark

__all__ = ["Plan", "benchmark", "load_plan", "plan_names", "render"]
