"""The verbs of notifications: accepting what is wanted, sending what is due, preferences, campaigns."""

from caravan.service import Context
from services.notifications.providers import Parts
from services.notifications.settings import Settings

NotificationsContext = Context[Settings, Parts]
