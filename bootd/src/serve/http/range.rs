//! Which part of a file a `Range` header asks for (RFC 9110, section 14).

use std::ops::Range;

/// What to send of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it: 200.
    Whole,
    /// These bytes: 206. Never empty, never past the end.
    Bytes(Range<u64>),
    /// Nothing: what was asked for lies outside: 416.
    Unsatisfiable,
}

/// The part that `header` asks of a file of `len` bytes. A header that makes no sense, asks in another unit or asks
/// for several ranges at once is as good as none: section 14.2 lets a server ignore it, and no boot program knows
/// what to do with `multipart/byteranges`.
pub(super) fn select(header: Option<&str>, len: u64) -> Part {
    let Some((first, last)) = header.and_then(parse) else { return Part::Whole };
    let range = match (first, last) {
        (Some(first), Some(last)) if last < first => return Part::Whole,
        (Some(first), Some(last)) => first..last.saturating_add(1).min(len),
        (Some(first), None) => first..len,
        (None, Some(suffix)) => len.saturating_sub(suffix)..len,
        (None, None) => return Part::Whole,
    };
    if range.is_empty() { Part::Unsatisfiable } else { Part::Bytes(range) }
}

/// The two numbers of `bytes=FIRST-LAST`, either of which may be missing.
fn parse(header: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (unit, range) = header.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    Some((number(first)?, number(last)?))
}

/// `Some(None)` is a number left out. Digits only: `u64`'s own parser takes a `+`. A number too large for 64 bits
/// lies behind the end of every file, so it is taken for the largest.
fn number(text: &str) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    text.bytes().all(|c| c.is_ascii_digit()).then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_what_they_ask_for() {
        use Part::{Bytes, Unsatisfiable, Whole};
        let all = "18446744073709551615";
        for (header, len, part) in [
            (None, 100, Whole),
            (Some("bytes=0-0"), 100, Bytes(0..1)),
            (Some("bytes=0-99"), 100, Bytes(0..100)),
            (Some("bytes=10-19"), 100, Bytes(10..20)),
            (Some("bytes=90-"), 100, Bytes(90..100)),
            (Some("bytes=0-"), 100, Bytes(0..100)),
            (Some("bytes=-10"), 100, Bytes(90..100)),
            (Some("bytes=-1000"), 100, Bytes(0..100)),
            (Some("bytes=50-1000"), 100, Bytes(50..100)),
            (Some("BYTES=1-2"), 100, Bytes(1..3)),
            (Some("bytes= 1-2 "), 100, Bytes(1..3)),
            (Some(&format!("bytes=1-{all}")), 100, Bytes(1..100)),
            (Some(&format!("bytes=1-{all}9")), 100, Bytes(1..100)),
            (Some("bytes=100-"), 100, Unsatisfiable),
            (Some("bytes=100-200"), 100, Unsatisfiable),
            (Some(&format!("bytes={all}-{all}")), 100, Unsatisfiable),
            (Some("bytes=-0"), 100, Unsatisfiable),
            (Some("bytes=0-"), 0, Unsatisfiable),
            (Some("bytes=-5"), 0, Unsatisfiable),
            (Some("bytes=2-1"), 100, Whole),
            (Some("bytes=-"), 100, Whole),
            (Some("bytes="), 100, Whole),
            (Some("bytes"), 100, Whole),
            (Some("bytes=a-b"), 100, Whole),
            (Some("bytes=+1-2"), 100, Whole),
            (Some("bytes=1-2,5-6"), 100, Whole),
            (Some("blocks=1-2"), 100, Whole),
        ] {
            assert_eq!(select(header, len), part, "{header:?} of {len}");
        }
    }
}
