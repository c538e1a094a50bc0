"""A web page and an HTTP API to diarize recordings, play each speaker, enrol and identify speakers."""

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
