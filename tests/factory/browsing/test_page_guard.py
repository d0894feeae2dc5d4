"""Who is answered: this machine's own names, the token, and for what writes this page alone."""

import pytest
from starlette.datastructures import Headers

from factory.browsing.guard import refusal

OWN = {"host": "127.0.0.1:8000"}


def code(method: str = "GET", path: str = "/token/", **headers: str) -> int | None:
    found = refusal(
        method, path, Headers(OWN | {name.replace("_", "-"): value for name, value in headers.items()}), "token"
    )
    return None if found is None else found.status_code


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost:9000", "[::1]:8000", "LOCALHOST:1"])
def test_guard_answers_to_this_machines_names_whatever_the_port_is(host: str) -> None:
    assert code(host=host) is None  # `ssh -L` may have another port


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost@evil.example", "0.0.0.0", "[::"],
)
def test_guard_answers_to_no_other_name(host: str) -> None:
    assert code(host=host) == 403


@pytest.mark.parametrize(
    "path", ["/", "/tokem/", "/token2/", "/TOKEN/", "//token/", "/static/browse.js", "/mark", "/tökén"]
)
def test_guard_answers_nothing_without_the_token(path: str) -> None:
    assert code(path=path) == 404
    assert code("POST", path) == 404


def test_guard_takes_marks_from_its_own_page() -> None:
    assert code("POST", "/token/mark", origin="http://127.0.0.1:8000", sec_fetch_site="same-origin") is None
    assert code("POST", "/token/mark") is None


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8001"},
        {"origin": "http://localhost:8000"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
    ],
)
def test_guard_takes_no_marks_from_another_page(headers: dict[str, str]) -> None:
    assert code("POST", "/token/mark", **headers) == 403
