"""What the console's routes share in one process: the way into the shop's API, and the seal of its cookies."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from caravan.http import App
from services.gateway.console.observability_links import ObservabilityLinks
from services.gateway.console.renewal import SessionOpener
from services.gateway.console.session import SessionSeal
from services.gateway.use_cases import GatewayContext


@dataclass(frozen=True, slots=True)
class Console:
    """`public_app`: the gateway's application, which takes the console's calls as it takes a client's."""

    context: GatewayContext
    public_app: App
    seal: SessionSeal
    sessions: SessionOpener
    links: ObservabilityLinks

    @property
    def is_https(self) -> bool:
        return is_https_url(self.context.url)


def is_https_url(url: str) -> bool:
    return urlsplit(url).scheme == "https"


def build_console(context: GatewayContext, public_app: App) -> Console:
    seal = SessionSeal(context.secret, is_https=is_https_url(context.url))
    settings = context.settings
    links = ObservabilityLinks(settings.grafana_url, settings.alerts_url, settings.trace_url)
    return Console(context, public_app, seal, SessionOpener(context, seal), links)
