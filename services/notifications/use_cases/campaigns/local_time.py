"""When a campaign's mail is due where its recipient lives, and the hours in which none is sent there."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

FIRST_ZONE = "Pacific/Kiritimati"
"""Where a time of day comes first, at UTC+14. A run in the local time of its recipients starts at its time there."""
_QUIET_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


def compute_local_start(at: datetime, zone: str) -> datetime:
    """When the time of day that `at` is in a zone comes for the first recipient."""
    return at.astimezone(ZoneInfo(zone)).replace(tzinfo=ZoneInfo(FIRST_ZONE)).astimezone(UTC)


@lru_cache(maxsize=1000)
def compute_local_due(start: datetime, zone: str) -> datetime:
    """When a run that starts so is due in a zone: at the same time of day. One that is skipped there, because clocks
    change, is due as long after midnight.
    """
    return start.astimezone(ZoneInfo(FIRST_ZONE)).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `begin` to `end` on the clock of the recipient, over midnight where `end` is before `begin`."""

    begin: time
    end: time

    def find_end(self, moment: datetime, zone: str) -> datetime | None:
        """When they end, if they are at this moment in the zone."""
        local = moment.astimezone(ZoneInfo(zone))
        clock = local.time()
        has_begun, has_ended, is_over_midnight = clock >= self.begin, clock >= self.end, self.begin > self.end
        if not (has_begun or not has_ended if is_over_midnight else has_begun and not has_ended):
            return None
        day = local.date() if clock < self.end else local.date() + timedelta(days=1)
        return datetime.combine(day, self.end, ZoneInfo(zone)).astimezone(UTC)


@lru_cache(maxsize=8)
def parse_quiet_hours(text: str) -> QuietHours:
    """`21:00-08:00`. Raises ValueError."""
    match = _QUIET_HOURS.fullmatch(text)
    if match is None:
        raise ValueError("must be the begin and the end as hh:mm-hh:mm, such as 21:00-08:00")
    first, second, third, fourth = map(int, match.groups())
    return QuietHours(time(first, second), time(third, fourth))
