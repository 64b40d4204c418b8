"""What identity's routes share: the client's network, and the check that a token's session is open."""

from fastapi import Request

from caravan.auth import Anyone
from caravan.http import Injected
from services.identity.model import find_client_network
from services.identity.use_cases import sessions
from services.identity.use_cases.keys import IdentityContext


def find_network(request: Request, context: IdentityContext) -> str:
    peer = request.client.host if request.client else None
    return find_client_network(peer, request.headers.get("x-forwarded-for", ""), context.settings.gateway_networks)


async def require_open_session(context: Injected[IdentityContext], caller: Anyone) -> None:
    """Here a token ends with its session at once; elsewhere within the seconds for which the session's state is
    cached.
    """
    if caller is not None:
        await sessions.require_open_session(context, caller)
