"""A small OpenID Connect provider: discovery, consent without a form, codes with PKCE, signed ID tokens, logout."""

import base64
import hashlib
import secrets
import time
from typing import Any
from urllib.parse import urlencode

from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

__all__ = ["CLIENT_ID", "CLIENT_SECRET", "Provider"]

CLIENT_ID, CLIENT_SECRET = "shop", "a secret of the shop"


class Provider:
    """One provider that knows one client and one person, `user`, who always agrees."""

    def __init__(self, user: dict[str, Any]) -> None:
        self.user = user
        self.logouts = 0
        self._key = RSAKey.generate_key(2048, parameters={"kid": "1", "use": "sig", "alg": "RS256"})
        self._codes: dict[str, dict[str, str]] = {}
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self.discover),
                Route("/authorize", self.authorize),
                Route("/token", self.exchange, methods=["POST"]),
                Route("/jwks", self.keys),
                Route("/logout", self.logout),
            ]
        )

    async def discover(self, request: Request) -> JSONResponse:
        base = str(request.base_url)
        places = {"authorization": "authorize", "token": "token", "end_session": "logout"}
        endpoints = {f"{name}_endpoint": base + path for name, path in places.items()}
        algorithms = {"id_token_signing_alg_values_supported": ["RS256"]}
        return JSONResponse({"issuer": base, "jwks_uri": f"{base}jwks", **endpoints, **algorithms})

    async def authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        if asked["client_id"] != CLIENT_ID or asked["response_type"] != "code":
            return PlainTextResponse("unknown client", 400)
        code = secrets.token_urlsafe()
        self._codes[code] = asked
        answer = {"code": code, "state": asked["state"]}
        if asked.get("response_mode") == "form_post":  # instead of a page whose form the browser sends by itself
            return JSONResponse({"action": asked["redirect_uri"], "fields": answer})
        return RedirectResponse(asked["redirect_uri"] + "?" + urlencode(answer))

    async def exchange(self, request: Request) -> JSONResponse:
        form = await request.form()
        asked = self._codes.pop(str(form["code"]), None)  # a code is good for one exchange
        if asked is None or form["redirect_uri"] != asked["redirect_uri"] or not self._knows(request):
            return JSONResponse({"error": "invalid_grant"}, 400)
        digest = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != asked["code_challenge"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(time.time())
        claims = {"iss": str(request.base_url), "aud": CLIENT_ID, "iat": now, "exp": now + 60, "nonce": asked["nonce"]}
        signed = jwt.encode({"alg": "RS256", "kid": "1"}, claims | self.user, self._key)
        return JSONResponse({"access_token": "a token", "token_type": "Bearer", "expires_in": 60, "id_token": signed})

    def _knows(self, request: Request) -> bool:
        scheme, _, given = request.headers["authorization"].partition(" ")
        return scheme == "Basic" and base64.b64decode(given).decode() == f"{CLIENT_ID}:{CLIENT_SECRET}"

    async def keys(self, request: Request) -> JSONResponse:
        return JSONResponse({"keys": [self._key.as_dict(private=False)]})

    async def logout(self, request: Request) -> RedirectResponse:
        self.logouts += 1
        query = urlencode({"state": request.query_params["state"]})
        return RedirectResponse(request.query_params["post_logout_redirect_uri"] + "?" + query)
