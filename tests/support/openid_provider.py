"""An OpenID Connect issuer of its own process, as small as tests of signing in there need: `python -m
tests.support.openid_provider <port>`. It signs what a test asks for, and misbehaves as a test asks.

`POST /test/...` steers it; everything else is what an issuer has. It decides nothing about the shop: what it is given
wrongly, it refuses by the specifications.
"""

import base64
import hashlib
import secrets
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlencode

import orjson
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

CLIENT_ID, CLIENT_SECRET = "caravan-console", "a secret that only the shop and the issuer know"
AUDIENCE = "caravan-api"
TOKEN_SECONDS = 600
ALGORITHMS = {"RS256": ("RSA", 2048), "ES256": ("EC", "P-256"), "EdDSA": ("OKP", "Ed25519")}


def generate_key(algorithm: str) -> Key:
    parameters = {"kid": secrets.token_hex(8), "use": "sig", "alg": algorithm}
    match ALGORITHMS[algorithm]:
        case ("RSA", int(bits)):
            return RSAKey.generate_key(bits, parameters)  # type: ignore[arg-type]
        case ("EC", str(curve)):
            return ECKey.generate_key(curve, parameters)  # type: ignore[arg-type]
        case _:
            return OKPKey.generate_key("Ed25519", parameters)  # type: ignore[arg-type]


class Provider:
    """What the issuer knows. One lock is not needed: the tests ask for one thing at a time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: list[Key] = [generate_key("RS256")]
        self.published: list[dict[str, Any]] = []
        """Entries of the key set beside the keys."""
        self.metadata: dict[str, Any] = {}
        """Fields of the discovery document that are otherwise than right; null leaves one out."""
        self.user: dict[str, Any] = {"sub": "u1", "email": "u1@corp.test", "email_verified": True, "name": "Una Corp"}
        """Who is signed in at the issuer's page."""
        self.id_token: dict[str, Any] = {}
        """Claims of ID tokens that are otherwise than right."""
        self.faults: dict[str, dict[str, Any]] = {}
        """By path, each with one of: delay (seconds), status, redirect (a URL), padding (bytes), body (a text)."""
        self.codes: dict[str, dict[str, str]] = {}
        self.requests: list[str] = []

    def sign_token(self, claims: dict[str, Any], header: dict[str, Any], *, key: Key | None = None) -> str:
        key = key or self.keys[-1]
        now = int(time.time())
        body = {"iss": self.url, "aud": AUDIENCE, "iat": now, "exp": now + TOKEN_SECONDS, **self.user, **claims}
        return jwt.encode(
            {"alg": key.alg, "kid": key.kid, **header},
            {name: value for name, value in body.items() if value is not None},
            key,
            algorithms=[*ALGORITHMS, "none", "HS256"],
        )

    def build_metadata(self) -> dict[str, Any]:
        document = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "jwks_uri": f"{self.url}/keys",
            "end_session_endpoint": f"{self.url}/logout",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": list(ALGORITHMS),
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            **self.metadata,
        }
        return {name: value for name, value in document.items() if value is not None}

    def build_key_set(self) -> dict[str, Any]:
        return {"keys": [*(key.as_dict(private=False) for key in self.keys), *self.published]}

    def authorize(self, query: dict[str, str]) -> str:
        """Where the browser goes from the issuer's page, on which the user is signed in and agrees."""
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT_ID
        assert query["code_challenge_method"] == "S256"
        assert "openid" in query["scope"].split()
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state'], 'iss': self.url})}"

    def issue_tokens(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        credentials = f"{quote_plus(CLIENT_ID)}:{quote_plus(CLIENT_SECRET)}"
        if authorization != f"Basic {base64.b64encode(credentials.encode()).decode()}":
            return 401, {"error": "invalid_client"}
        asked = self.codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if (
            asked is None
            or form["grant_type"] != "authorization_code"
            or form["redirect_uri"] != asked["redirect_uri"]
            or challenge.decode().rstrip("=") != asked["code_challenge"]
        ):
            return 400, {"error": "invalid_grant"}
        id_token = self.sign_token({"aud": CLIENT_ID, "nonce": asked["nonce"], **self.id_token}, {})
        access_token = self.sign_token({}, {"typ": "at+jwt"})
        return 200, {"access_token": access_token, "token_type": "Bearer", "expires_in": 600, "id_token": id_token}

    def steer(self, action: str, body: dict[str, Any]) -> Any:
        match action:
            case "sign":
                return {"token": self.sign_token(body.get("claims", {}), body.get("header", {}))}
            case "rotate":
                self.keys = [*(self.keys if body.get("keep") else []), generate_key(body.get("algorithm", "RS256"))]
                return self.build_key_set()
            case "set":
                for name, value in body.items():
                    setattr(self, name, value)
                return {}
            case "requests":
                seen, self.requests = self.requests, []
                return seen
        raise ValueError(action)


class Handler(BaseHTTPRequestHandler):
    provider: Provider
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, _, text = self.path.partition("?")
        query = {name: values[-1] for name, values in parse_qs(text).items()}
        provider = self.provider
        provider.requests.append(path)
        if self._misbehave(path):
            return
        match path:
            case "/.well-known/openid-configuration":
                self._answer(200, provider.build_metadata())
            case "/keys":
                self._answer(200, provider.build_key_set())
            case "/authorize":
                self._redirect(provider.authorize(query))
            case "/logout":
                self._redirect(query["post_logout_redirect_uri"])
            case "/userinfo":
                self._answer(200, provider.user)
            case _:
                self._answer(404, {"error": "not_found"})

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", "0")))
        if self.path.startswith("/test/"):
            self._answer(200, self.provider.steer(self.path.removeprefix("/test/"), orjson.loads(content or b"{}")))
            return
        self.provider.requests.append(self.path)
        if self._misbehave(self.path):
            return
        form = {name: values[-1] for name, values in parse_qs(content.decode()).items()}
        self._answer(*self.provider.issue_tokens(form, self.headers.get("authorization", "")))

    def _misbehave(self, path: str) -> bool:
        fault = self.provider.faults.get(path, {})
        time.sleep(fault.get("delay", 0))
        if "redirect" in fault:
            self._redirect(fault["redirect"])
        elif "padding" in fault:
            self._answer(200, {"padding": "x" * fault["padding"], **self.provider.build_key_set()})
        elif "body" in fault:
            self._send(200, fault["body"].encode())
        elif "status" in fault:
            self._answer(fault["status"], {"error": "server_error"})
        return bool(fault.keys() - {"delay"})

    def _redirect(self, url: str) -> None:
        self._send(302, b"", {"location": url})

    def _answer(self, status: int, body: Any) -> None:
        self._send(status, orjson.dumps(body))

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *_: Any) -> None:
        """No line for each request."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    Handler.provider = Provider(f"http://127.0.0.1:{server.server_port}")
    print(server.server_port, flush=True)
    server.serve_forever()
