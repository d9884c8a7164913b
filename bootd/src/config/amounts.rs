//! Sizes, times and ranges as people write them.

use std::net::Ipv4Addr;
use std::time::Duration;

/// Reads `"4GiB"`, `"512 MiB"`, `"100000"` or, of `whole`, `"25%"`: a number of bytes.
pub(crate) fn size(text: &str, whole: Option<u64>) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "%" if number <= 100 => return Some(whole? / 100 * number),
        _ => return None,
    };
    number.checked_mul(factor)
}

/// Reads `"90s"`, `"30m"`, `"12h"` or `"7d"`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(factor).map(Duration::from_secs)
}

/// Reads `"10.0.0.100-10.0.0.200"`: two addresses, the first not behind the last.
pub(super) fn address_range(text: &str) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last).then_some((first, last))
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim()))
}

/// A number of bytes in the largest unit that keeps it readable: `1.5 GiB`.
pub(crate) fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["TiB", "GiB", "MiB", "KiB"];
    for (unit, shift) in UNITS.into_iter().zip([40, 30, 20, 10]) {
        if bytes >= 1 << shift {
            let whole = bytes >> shift;
            let rest = bytes & ((1 << shift) - 1);
            let tenths = ((rest >> (shift - 10)) * 10) >> 10;
            return if tenths == 0 { format!("{whole} {unit}") } else { format!("{whole}.{tenths} {unit}") };
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in
            [("4GiB", 4 << 30), ("512 MiB", 512 << 20), ("1000", 1000), ("2gb", 2_000_000_000), ("1K", 1024)]
        {
            assert_eq!(size(text, None), Some(bytes), "{text}");
        }
        assert_eq!(size("25%", Some(8 << 30)), Some((8 << 30) / 100 * 25));
        for bad in ["", "GiB", "-1GiB", "1.5GiB", "4 GiBs", "25%", "99999999999TiB", "101%"] {
            assert_eq!(size(bad, None), None, "{bad}");
        }
        assert_eq!(size("101%", Some(100)), None);
    }

    #[test]
    fn sizes_are_shown_with_one_decimal() {
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (20 << 30, "20 GiB")] {
            assert_eq!(show_size(bytes), text);
        }
        assert_eq!(show_size((1 << 20) - 1), "1023.9 KiB");
    }

    #[test]
    fn durations_and_ranges() {
        assert_eq!(duration("12h"), Some(Duration::from_secs(43_200)));
        assert_eq!(duration("12"), None, "a unit is needed: minutes or seconds is anyone's guess");
        assert_eq!(address_range("10.0.0.9 - 10.0.0.10").map(|r| r.1), Some(Ipv4Addr::new(10, 0, 0, 10)));
        assert_eq!(address_range("10.0.0.10-10.0.0.9"), None);
        assert_eq!(address_range("10.0.0.10"), None);
    }
}
