"""Times as Go's encoding/json writes and reads them: RFC 3339, as many digits of a second as there are.

A time is nanoseconds since 1970, in the 64 bits that Go has for it: 1677 to 2262. Knows no clock.
"""

import re

_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9})[0-9]*)?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)
_SECOND_NS = 1_000_000_000
_DAY_S = 86_400
_ERA_DAYS = 146_097  # the Gregorian calendar repeats itself after 400 years
_EPOCH_DAYS = 719_468  # from 0000-03-01 to 1970-01-01: years begin in March here, so that a leap day is the last one


def format_ns(time_ns: int) -> str:
    """In UTC."""
    seconds, nanoseconds = divmod(time_ns, _SECOND_NS)
    days, second = divmod(seconds, _DAY_S)
    era, day_of_era = divmod(days + _EPOCH_DAYS, _ERA_DAYS)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    year = 400 * era + year_of_era + (month <= 2)
    fraction = f".{nanoseconds:09}".rstrip("0") if nanoseconds else ""
    return f"{year:04}-{month:02}-{day:02}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}{fraction}Z"


def parse_ns(text: str) -> int:
    """Raises ValueError for what is no time. May lie outside of 64 bits."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no time")
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 60):
        raise ValueError(f"{text!r} is no time")
    fraction, sign, zone_hours, zone_minutes = match.groups()[6:]
    if month <= 2:
        year -= 1
    shifted_month = month - 3 if month > 2 else month + 9
    day_of_year = (153 * shifted_month + 2) // 5 + day - 1
    days = 365 * year + year // 4 - year // 100 + year // 400 + day_of_year - _EPOCH_DAYS
    seconds = days * _DAY_S + hour * 3600 + minute * 60 + second
    if sign is not None:
        offset_s = int(zone_hours) * 3600 + int(zone_minutes) * 60
        seconds += offset_s if sign == "-" else -offset_s
    return seconds * _SECOND_NS + int((fraction or "").ljust(9, "0"))
