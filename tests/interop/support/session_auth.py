"""A session for httpx: logs in when it must, refreshes when a token is refused, and sends the request again."""

import httpx


class Session(httpx.Auth):
    requires_response_body = True

    def __init__(self, gateway, username, password):
        self.gateway, self.login = gateway, {"username": username, "password": password}
        self.access = self.refresh = None

    def auth_flow(self, request):
        if self.access is None:
            self.keep((yield self.ask("password", **self.login)))
        request.headers["Authorization"] = f"Bearer {self.access}"
        response = yield request
        if response.status_code == 401:
            self.keep((yield self.ask("refresh_token", refresh_token=self.refresh)))
            request.headers["Authorization"] = f"Bearer {self.access}"
            yield request

    def ask(self, grant, **fields):
        return httpx.Request("POST", f"{self.gateway}/auth/token", data={"grant_type": grant, **fields})

    def keep(self, response):
        if response.is_error:
            raise PermissionError(response.json().get("error_description", response.text))
        self.access, self.refresh = response.json()["access_token"], response.json()["refresh_token"]
