//! What may come to the HTTP port, for the daemon's own reader of a request's head.

use super::head::{MAX_HEAD, parse};

/// Takes the input for the beginning of a connection.
pub fn run(data: &[u8]) {
    let Ok(Some((head, len))) = parse(data) else { return };
    assert!(len <= data.len() && len <= MAX_HEAD, "{len} of {}", data.len());
    // What comes behind a head is none of its business, and what is cut off is waited for.
    let alone = data.get(..len).unwrap_or_default();
    assert_eq!(parse(alone), Ok(Some((head.clone(), len))));
    for cut in [len / 3, len / 2, len.saturating_sub(1)] {
        assert_eq!(parse(data.get(..cut).unwrap_or_default()), Ok(None), "cut at {cut}");
    }
    for text in [Some(&head.path), head.range.as_ref(), head.if_range.as_ref(), head.if_none_match.as_ref()] {
        // It goes into the log and into headers.
        assert!(text.is_none_or(|text| !text.contains(['\r', '\n', '\0'])), "{text:?}");
    }
}
