"""Dead letters of every transport, outbox and job in one list: looked at, redriven, discarded."""

from caravan.dead_letters.service import DeadLetterService, DeadLetterSource, SubscriptionDeadLetters

__all__ = ["DeadLetterService", "DeadLetterSource", "SubscriptionDeadLetters"]
