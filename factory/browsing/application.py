"""The pages over HTTP: which address shows what, and the one that takes marks.

The rule that must not break: what is looked at is looked at by GET, which changes nothing.
"""

from pathlib import Path

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from factory.browsing.desk import Desk, NoPair
from factory.browsing.guard import Guard
from factory.browsing.marking import Said
from factory.browsing.pages import trouble_page
from schemas.errors import FactoryError, Fixable

LARGEST = 64 * 1024  # bytes of a form
_HERE = Path(__file__).parent
_FILES = {
    "report.css": (_HERE.parent / "looking" / "templates" / "report.css", "text/css"),
    "browse.css": (_HERE / "static" / "browse.css", "text/css"),
    "browse.js": (_HERE / "static" / "browse.js", "text/javascript"),
}


def application(desk: Desk, token: str) -> ASGIApp:
    """`token`: the first part of every path that is answered."""

    def listed(request: Request) -> Response:
        return HTMLResponse(desk.list_page(request.query_params))

    def pair(request: Request) -> Response:
        own = request.path_params
        return HTMLResponse(desk.pair_page(own["round"], own["prompt_id"], request.query_params))

    async def mark(request: Request) -> Response:
        said = _said(dict(await request.form(max_files=0, max_fields=20)))
        return RedirectResponse(await run_in_threadpool(desk.mark, said), 303)

    async def troubled(request: Request, error: Exception) -> Response:
        code = 404 if isinstance(error, NoPair) else 400 if isinstance(error, Fixable) else 500
        return HTMLResponse(trouble_page(desk.base, str(error)), code)

    inner = [
        Route("/", listed),
        Route("/pair/{round:int}/{prompt_id:path}", pair),
        Route("/mark", mark, methods=["POST"]),
        Route("/static/{name}", _static),
    ]
    routes = [Mount(f"/{token}", routes=inner)]
    return Guard(Starlette(routes=routes, exception_handlers={FactoryError: troubled}, max_body_size=LARGEST), token)


def _said(form: dict[str, object]) -> Said:
    """Raises Fixable."""
    try:
        return Said.model_validate(form)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise Fixable(f"{'.'.join(map(str, first['loc']))}: {first['msg']}; go back and try again") from None


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _FILES:
        return PlainTextResponse("Not found.", 404)
    path, kind = _FILES[name]
    return Response(path.read_bytes(), media_type=kind)
