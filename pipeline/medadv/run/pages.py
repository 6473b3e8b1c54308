"""Who may look at a cluster? Nobody, unless a dashboard was asked for; then who has its token."""

import hmac
import secrets
from typing import Any

from distributed import Scheduler, Worker
from distributed.http.routing import RoutingApplication
from tornado import web
from tornado.httpserver import HTTPServer


class _Unseen:
    """A Dask server that listens for no browser. By default each has a port with pages for whoever asks."""

    def start_http_server(self, *_: Any, **__: Any) -> None:
        """Instead of the pages: none, and no port."""
        self.http_application = RoutingApplication([])
        self.http_server = HTTPServer(self.http_application)


class UnseenScheduler(_Unseen, Scheduler):
    """Without pages."""


class UnseenWorker(_Unseen, Worker):
    """Without pages."""


class GuardedScheduler(Scheduler):
    """With Dask's pages for who shows the token: once in the address, from then on in a cookie."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.token = secrets.token_urlsafe(24)
        super().__init__(*arguments, **options)

    def start_http_server(self, *arguments: Any, **options: Any) -> None:
        """The pages, each behind the guard."""
        super().start_http_server(*arguments, **options)
        application, port, token = self.http_application, self.http_server.port, self.token
        find = application.find_handler

        def guarded(request: Any, **rest: Any) -> Any:
            shown = request.query_arguments.get("token", [b""])[-1]
            if _same(shown, token):
                return application.get_handler_delegate(request, _Entry, {"name": _cookie(port), "token": token})
            kept = request.cookies.get(_cookie(port))
            if kept is not None and _same(kept.value.encode(), token):
                return find(request, **rest)
            return application.get_handler_delegate(request, web.ErrorHandler, {"status_code": 403})

        application.find_handler = guarded

    @property
    def link(self) -> str:
        """The address of the dashboard, token included."""
        return f"http://127.0.0.1:{self.http_server.port}/status?token={self.token}"


class _Entry(web.RequestHandler):
    """Keep the token in a cookie, and go on to the page without it."""

    def initialize(self, name: str, token: str) -> None:
        self.name, self.token = name, token

    def get(self) -> None:
        self.set_cookie(self.name, self.token, httponly=True, samesite="Strict")
        # A path that begins with two slashes would lead to another host.
        self.redirect("/" + self.request.path.lstrip("/"))


def _cookie(port: int) -> str:
    # Cookies are kept by host, whatever the port; other runs have other tokens.
    return f"medadv-{port}"


def _same(shown: bytes, token: str) -> bool:
    return hmac.compare_digest(shown, token.encode())
