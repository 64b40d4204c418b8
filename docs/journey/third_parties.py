"""The third parties of every early step: the card provider and the mail server. What they have done can't be rolled
back, whatever happens to the shop.
"""

import json
import os
import smtplib
import time
from email.message import EmailMessage
from pathlib import Path

MAIL_SECONDS = 5


class ProviderUnavailable(Exception):
    """The card provider doesn't answer."""


class CardProvider:
    """A simulated provider with a ledger of its own. The same key is charged once."""

    def __init__(self, ledger: Path = Path("card-provider.jsonl")) -> None:
        self.ledger = ledger
        self.seconds = float(os.environ.get("CARD_SECONDS", "0.2"))

    def charge(self, key: str, amount: int, card: str) -> None:
        """Raises ProviderUnavailable: for `tok_unavailable` always, for `tok_flaky` the first two times."""
        time.sleep(self.seconds)
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        previous_outcomes = [entry["outcome"] for entry in map(json.loads, lines) if entry["key"] == key]
        if "charged" in previous_outcomes:
            return
        is_unavailable = card == "tok_unavailable" or (card == "tok_flaky" and len(previous_outcomes) < 2)
        with self.ledger.open("a") as ledger:
            ledger.write(
                json.dumps({"key": key, "amount": amount, "outcome": "unavailable" if is_unavailable else "charged"})
                + "\n"
            )
        if is_unavailable:
            raise ProviderUnavailable("the card provider does not answer")


def send_mail(to: str, subject: str, text: str) -> None:
    """Raises OSError when there is no server, smtplib.SMTPException when it refuses the mail."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "shop@example.com", to, subject
    message.set_content(text)
    host, _, port = os.environ.get("MAIL", "127.0.0.1:1025").partition(":")
    with smtplib.SMTP(host, int(port), timeout=MAIL_SECONDS) as server:
        server.send_message(message)
