//! Reading a request's head. What needs no more than that, boot programs' requests, is all that is served here.

use std::mem::MaybeUninit;

use httparse::{Error, Request, Status};

/// The longest head, in bytes. What is longer is answered with 431 and the connection closed.
pub(super) const MAX_HEAD: usize = 8 * 1024;

/// The most header lines. What has more is answered with 431 and the connection closed.
const MAX_HEADERS: usize = 64;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// All of it.
    Get,
    /// The head of the answer only.
    Head,
}

/// A request without a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// What is asked.
    pub(super) method: Method,
    /// The path as sent: with its escapes and its query.
    pub(super) path: String,
    /// `Range`.
    pub(super) range: Option<String>,
    /// `If-Range`.
    pub(super) if_range: Option<String>,
    /// `If-None-Match`.
    pub(super) if_none_match: Option<String>,
    /// Whether the client will ask again on the same connection.
    pub(super) keep_alive: bool,
    /// Whether the client is HTTP/1.0, which must be told that the connection stays open.
    pub(super) old: bool,
}

/// Why a request is not served. The connection is closed after each: where the next request begins is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadError {
    /// It is no HTTP/1 request.
    #[error("a request that is not HTTP/1")]
    Malformed,
    /// It is longer than [`MAX_HEAD`] or has more than [`MAX_HEADERS`] lines.
    #[error("a request head of more than {MAX_HEAD} bytes or {MAX_HEADERS} lines")]
    TooLarge,
    /// It is neither GET nor HEAD.
    #[error("a request other than GET and HEAD")]
    Method,
    /// It comes with a body.
    #[error("a request with a body")]
    Body,
}

impl HeadError {
    /// The status that says so.
    pub(super) fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::TooLarge => 431,
            Self::Method => 405,
            Self::Body => 413,
        }
    }
}

/// Reads the head at the beginning of `bytes`: the request and how long its head is, or `None` while some of it is
/// still to come.
///
/// # Errors
/// When it is not a request that is served.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, HeadError> {
    // Room for all the lines that there may be, which mostly are three, is not filled first.
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = Request::new(&mut []);
    let len = match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(_) => return Err(HeadError::Malformed),
    };
    if len > MAX_HEAD {
        return Err(HeadError::TooLarge);
    }
    let method = match request.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        _ => return Err(HeadError::Method),
    };
    let old = request.version == Some(0);
    let mut head = Head {
        method,
        path: origin_form(request.path.unwrap_or_default()).to_owned(),
        range: None,
        if_range: None,
        if_none_match: None,
        keep_alive: !old,
        old,
    };
    for header in request.headers.iter() {
        // A value that is no text is no value that is understood.
        let Ok(value) = str::from_utf8(header.value) else { continue };
        let is = |name| header.name.eq_ignore_ascii_case(name);
        if is("transfer-encoding") || is("content-length") && value.trim() != "0" {
            return Err(HeadError::Body);
        } else if is("range") {
            head.range = Some(value.to_owned());
        } else if is("if-range") {
            head.if_range = Some(value.to_owned());
        } else if is("if-none-match") {
            head.if_none_match = Some(value.to_owned());
        } else if is("connection") {
            let has = |token: &str| value.split(',').any(|t| t.trim().eq_ignore_ascii_case(token));
            head.keep_alive = !has("close") && (!old || has("keep-alive"));
        }
    }
    Ok(Some((head, len)))
}

/// The path of a target. `http://host/path` is what a client sends to a proxy, and every server must understand it
/// (RFC 9112, section 3.2.2).
fn origin_form(target: &str) -> &str {
    let Some(rest) = target.get(..7).filter(|s| s.eq_ignore_ascii_case("http://")).and(target.get(7..))
    else {
        return target;
    };
    rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn complete(request: &str) -> Head {
        let (head, len) = parse(request.as_bytes()).unwrap().unwrap();
        assert_eq!(len, request.len());
        head
    }

    #[test]
    fn what_ipxe_sends_is_understood() {
        let head = complete(
            "GET /boot/52-54-00-77-00-01/script.ipxe HTTP/1.1\r\nConnection: keep-alive\r\nUser-Agent: iPXE/1.0.0\r\nHost: 10.77.0.1\r\n\r\n",
        );
        assert_eq!(head.path, "/boot/52-54-00-77-00-01/script.ipxe");
        assert_eq!((head.method, head.keep_alive, head.old), (Method::Get, true, false));
    }

    #[test]
    fn the_connection_header_and_the_version_decide_on_keep_alive() {
        for (lines, keep_alive) in [
            ("HTTP/1.1\r\n", true),
            ("HTTP/1.1\r\nConnection: close\r\n", false),
            ("HTTP/1.1\r\nconnection: foo, Close\r\n", false),
            ("HTTP/1.0\r\n", false),
            ("HTTP/1.0\r\nConnection: Keep-Alive\r\n", true),
        ] {
            assert_eq!(complete(&format!("HEAD / {lines}\r\n")).keep_alive, keep_alive, "{lines:?}");
        }
    }

    #[test]
    fn an_absolute_target_is_its_path() {
        assert_eq!(complete("GET HTTP://10.0.0.1:80/files/a HTTP/1.1\r\n\r\n").path, "/files/a");
        assert_eq!(complete("GET http://10.0.0.1 HTTP/1.1\r\n\r\n").path, "/");
    }

    #[test]
    fn conditions_are_kept_as_sent() {
        let head = complete(
            "GET /files/a HTTP/1.1\r\nrange: bytes=0-1\r\nIf-Range: \"x\"\r\nIf-None-Match: *\r\nContent-Length: 0\r\n\r\n",
        );
        assert_eq!(head.range.as_deref(), Some("bytes=0-1"));
        assert_eq!(head.if_range.as_deref(), Some("\"x\""));
        assert_eq!(head.if_none_match.as_deref(), Some("*"));
    }

    #[test]
    fn what_is_not_served_is_an_error_and_what_is_cut_off_is_awaited() {
        for (request, error) in [
            ("POST / HTTP/1.1\r\n\r\n", HeadError::Method),
            ("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", HeadError::Body),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::Body),
            ("\x16\x03\x01\x02", HeadError::Malformed),
            ("GET / HTTP/2.0\r\n\r\n", HeadError::Malformed),
        ] {
            assert_eq!(parse(request.as_bytes()), Err(error), "{request:?}");
        }
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(MAX_HEAD));
        assert_eq!(parse(long.as_bytes()), Err(HeadError::TooLarge));
        assert_eq!(parse(&long.as_bytes()[..MAX_HEAD]), Err(HeadError::TooLarge));
        assert_eq!(parse(&long.as_bytes()[..MAX_HEAD - 1]), Ok(None));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(parse(many.as_bytes()), Err(HeadError::TooLarge));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_head_in_pieces_is_the_same_head(cut in 0usize..70) {
            let whole = b"GET /files/undionly.kpxe HTTP/1.1\r\nHost: 10.0.0.1\r\nRange: bytes=5-\r\n\r\n";
            let cut = cut.min(whole.len() - 1);
            prop_assert_eq!(parse(&whole[..cut]), Ok(None));
            prop_assert!(parse(whole).unwrap().is_some());
        }
    }
}
