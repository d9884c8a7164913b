//! Times and places for people.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::whereabouts::Sighting;

/// A moment in milliseconds since 1970, in local time: `2026-11-21 14:03:07`.
pub(super) fn moment(millis: u64) -> String {
    let stamp = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    let Some(stamp) = stamp else { return "?".to_owned() };
    stamp.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A time span in milliseconds, in seconds: `12.345 s`.
pub(super) fn seconds(millis: u64) -> String {
    format!("{}.{:03} s", millis / 1000, millis % 1000)
}

/// Which address a client has, and how that is known.
pub(super) fn whereabouts(leased: Option<Ipv4Addr>, seen: Option<&Sighting>) -> String {
    match (leased, seen) {
        (Some(address), _) => format!("{address}, which is leased to it"),
        (None, Some(Sighting { address, by, at })) => format!("{address}: {by} at {}", moment(*at)),
        (None, None) => "not known, as it was not seen since the start".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_spans() {
        assert_eq!(moment(0).len(), "1970-01-01 00:00:00".len());
        assert_eq!(moment(u64::MAX), "?");
        assert_eq!(seconds(12_045), "12.045 s");
    }
}
