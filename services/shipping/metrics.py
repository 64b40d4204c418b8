"""The metrics that shipping keeps."""

from caravan.telemetry import ProviderCalls

PROVIDER_CALLS = ProviderCalls("shipping")
