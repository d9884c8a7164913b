//! Text of the login and text negotiations: `key=value` pairs, each ended by a NUL (RFC 7143 6.1).

use std::fmt::Write as _;

/// Longest key (RFC 7143 6.1).
const MAX_KEY: usize = 63;

/// Longest value: that of a CHAP challenge of 1024 bytes in hexadecimal, with room to spare. Simple values end at
/// 255 bytes.
const MAX_VALUE: usize = 8192;

/// Most pairs in one negotiation. There are about 40 keys.
const MAX_PAIRS: usize = 128;

/// Text that is no list of pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TextError {
    #[error("text that is not UTF-8")]
    NotUtf8,
    #[error("text without a key and '='")]
    NotAPair,
    #[error("a key or value that is too long")]
    TooLong,
    #[error("too many keys")]
    TooMany,
    #[error("the same key twice")]
    Duplicate,
}

/// The pairs in `text`, in their order. No key comes twice.
pub(crate) fn pairs(text: &[u8]) -> Result<Vec<(&str, &str)>, TextError> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for pair in text.split(|&byte| byte == 0).filter(|pair| !pair.is_empty()) {
        let pair = std::str::from_utf8(pair).map_err(|_| TextError::NotUtf8)?;
        let (key, value) = pair.split_once('=').ok_or(TextError::NotAPair)?;
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TextError::NotAPair);
        }
        if key.len() > MAX_KEY || value.len() > MAX_VALUE {
            return Err(TextError::TooLong);
        }
        if found.iter().any(|(known, _)| *known == key) {
            return Err(TextError::Duplicate);
        }
        if found.len() == MAX_PAIRS {
            return Err(TextError::TooMany);
        }
        found.push((key, value));
    }
    Ok(found)
}

/// Pairs to be sent.
#[derive(Debug, Default)]
pub(crate) struct Answers(Vec<u8>);

impl Answers {
    pub(crate) fn push(&mut self, key: &str, value: &str) {
        self.0.extend([key.as_bytes(), b"=", value.as_bytes(), b"\0"].concat());
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A numerical value: decimal, or hexadecimal behind `0x` (RFC 7143 6.1).
pub(crate) fn number(value: &str) -> Option<u32> {
    let (digits, radix) = match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(hexadecimal) => (hexadecimal, 16),
        None => (value, 10),
    };
    // `from_str_radix` would take a sign.
    digits.starts_with(|c: char| c.is_digit(radix)).then(|| u32::from_str_radix(digits, radix).ok())?
}

/// A binary value of at most `max` bytes: hexadecimal behind `0x` or base64 behind `0b` (RFC 7143 6.1).
pub(crate) fn binary(value: &str, max: usize) -> Option<Vec<u8>> {
    let (prefix, digits) = value.split_at_checked(2)?;
    let bytes = match prefix {
        "0x" | "0X" => hexadecimal(digits),
        "0b" | "0B" => base64(digits),
        _ => None,
    }?;
    (bytes.len() <= max).then_some(bytes)
}

fn hexadecimal(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = digits.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    // An odd number of digits has a zero in front of it that was not written.
    let odd = digits.len() % 2;
    let (first, rest) = digits.split_at_checked(odd)?;
    let (whole, _) = rest.as_chunks::<2>();
    Some(first.iter().copied().chain(whole.iter().map(|[high, low]| high << 4 | low)).collect())
}

fn base64(digits: &str) -> Option<Vec<u8>> {
    let unpadded = digits.trim_end_matches('=');
    let padding = digits.len() - unpadded.len();
    if !digits.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0);
    for digit in unpadded.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes)
}

/// `bytes` as hexadecimal behind `0x`.
pub(crate) fn to_hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("0x"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_split_at_the_first_equals_sign() {
        assert_eq!(pairs(b"A=1\0B=\0C=x=y\0\0\0").unwrap(), [("A", "1"), ("B", ""), ("C", "x=y")]);
        assert_eq!(pairs(b"").unwrap(), []);
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        assert_eq!(pairs(b"A\0"), Err(TextError::NotAPair));
        assert_eq!(pairs(b"=1\0"), Err(TextError::NotAPair));
        assert_eq!(pairs(b"A b=1\0"), Err(TextError::NotAPair));
        assert_eq!(pairs(b"A=\xff\0"), Err(TextError::NotUtf8));
        assert_eq!(pairs(b"A=1\0A=2\0"), Err(TextError::Duplicate));
        assert_eq!(pairs(format!("{}=1\0", "k".repeat(64)).as_bytes()), Err(TextError::TooLong));
        assert_eq!(pairs(format!("A={}\0", "v".repeat(8193)).as_bytes()), Err(TextError::TooLong));
        let many: String = (0..129).map(|n| format!("K{n}=1\0")).collect();
        assert_eq!(pairs(many.as_bytes()), Err(TextError::TooMany));
    }

    #[test]
    fn numbers_have_no_sign() {
        assert_eq!((number("8192"), number("0x2000"), number("0")), (Some(8192), Some(8192), Some(0)));
        for bad in ["", "+1", "-1", "0x", "1 ", "4294967296", "1.5", "0x+1"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn binary_values_in_both_encodings() {
        assert_eq!(binary("0x00ffA1", 3), Some(vec![0, 0xff, 0xa1]));
        assert_eq!(binary("0xfff", 3), Some(vec![0x0f, 0xff]));
        assert_eq!(binary("0bAP+h", 3), Some(vec![0, 0xff, 0xa1]));
        assert_eq!(binary("0bb3ZlcnNpemUK", 99), Some(b"oversize\n".to_vec()));
        assert_eq!(binary("0bAA==", 3), Some(vec![0]));
        for bad in ["", "0", "12", "0xg0", "0bA", "0bA===", "0bAA=A", "0b_-__", "é"] {
            assert_eq!(binary(bad, 99), None, "{bad:?}");
        }
        assert_eq!(binary("0x00000000", 3), None, "too long");
        assert_eq!(to_hexadecimal(&[0, 0xff]), "0x00ff");
    }
}
