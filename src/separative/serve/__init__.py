"""A page and an HTTP API on this machine: drop a recording, see and hear who speaks, enrol, find again."""

from separative.errors import MissingExtraError

try:
    from separative.serve.app import create_app
    from separative.serve.limits import Limits
    from separative.serve.run import serve
except ModuleNotFoundError as error:
    if error.name not in ("fastapi", "starlette", "uvicorn"):
        raise
    raise MissingExtraError("a server", "serve") from error

__all__ = ["Limits", "create_app", "serve"]
