"""Training: recipes, the loop, checkpoints, validation."""

from separative.training.loop import train
from separative.training.recipe import Recipe, load_recipe, parse_recipe, recipe_names
from separative.training.run_log import Status
from separative.training.validation import Validation

__all__ = ["Recipe", "Status", "Validation", "load_recipe", "parse_recipe", "recipe_names", "train"]
