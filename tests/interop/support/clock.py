"""The wall clock of processes, which can be moved while they run, and the one that PyJWT sees."""

import datetime
import glob
from unittest import mock


class Clock:
    """The wall clock of whoever gets `environment`. Durations stay what they are."""

    def __init__(self, folder, offset="+0"):
        library = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
        assert library, "libfaketime is missing: install the Debian package `faketime`, or use scripts/test, which does"
        self.file = folder / "clock"
        self.move(offset)
        self.environment = {
            "LD_PRELOAD": library[0],
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def move(self, offset):
        """So far from the right time from now on, as in `-1h`."""
        # In one step: whoever reads an empty file would fall back to the right time for a moment.
        fresh = self.file.with_suffix(".new")
        fresh.write_text(f"{offset}\n")
        fresh.rename(self.file)


def pyjwt_at(now: int) -> mock._patch:
    """PyJWT's clock, stopped."""

    class Stopped(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime.fromtimestamp(now, tz)

    return mock.patch("jwt.api_jwt.datetime", Stopped)
