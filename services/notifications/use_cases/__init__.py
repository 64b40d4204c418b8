"""The verbs of notifications: accepting what is wanted, sending what is due, preferences, campaigns."""

from caravan.service import ServiceContext
from services.notifications.providers import NotificationsResources
from services.notifications.settings import Settings

NotificationsContext = ServiceContext[Settings, NotificationsResources]
