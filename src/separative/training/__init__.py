"""Training: recipes, the loop, checkpoints, validation."""

from separative.training.loop import train
from separative.training.pace import Status
from separative.training.recipe import Recipe, load_recipe, parse_recipe, recipe_names
from separative.training.validation import Validation

__all__ = ["Recipe", "Status", "Validation", "load_recipe", "parse_recipe", "recipe_names", "train"]
