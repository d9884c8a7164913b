//! An answer and how it is sent: texts from memory, files by `sendfile(2)` without a copy of ours.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{Advice, fadvise, sendfile};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::head::{Head, Method};
use super::range::{Part, select};
use crate::mirror::{HELD_BACK, Phase};
use crate::serve::files::{Fetched, MAX_SMALL, OpenFile, Small, Version};

/// How long a client may take none of an answer, before the connection is closed. Firmware pauses to check and
/// unpack what it got; a client that was switched off never goes on.
const STALL: Duration = Duration::from_secs(60);

/// The media type of a text.
const TEXT: &str = "text/plain; charset=utf-8";

/// About how long a head is, in bytes.
const HEAD_ROOM: usize = 384;

/// How much of a file is handed to the kernel at a time, in bytes. Between two pieces other connections get a turn.
const PIECE: u64 = 1 << 20;

/// A header line's value.
#[derive(Debug)]
pub(super) enum Value {
    Fixed(&'static str),
    Made(String),
    /// Made once for many answers.
    Shared(Arc<str>),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Fixed(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Made(text)
    }
}

impl From<Arc<str>> for Value {
    fn from(text: Arc<str>) -> Self {
        Self::Shared(text)
    }
}

impl AsRef<str> for Value {
    fn as_ref(&self) -> &str {
        match self {
            Self::Fixed(text) => text,
            Self::Made(text) => text,
            Self::Shared(text) => text,
        }
    }
}

/// Names and values of header lines.
type Headers = Vec<(&'static str, Value)>;

/// An answer.
#[derive(Debug)]
pub(super) struct Response {
    status: u16,
    headers: Headers,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// Its length is not said, because to know it would be to make it: for HEAD only.
    Unsaid,
    Bytes(Vec<u8>),
    File(File, Range<u64>),
    Small(Arc<Small>, Range<u64>),
    /// A file of so many bytes that is still coming.
    Arriving(Arc<File>, u64, watch::Receiver<Phase>, Range<u64>),
}

impl Body {
    /// How long it is, if that is said, in bytes.
    fn len(&self) -> Option<u64> {
        match self {
            Self::Unsaid => None,
            Self::Bytes(body) => Some(body.len() as u64),
            Self::File(_, range) | Self::Small(_, range) | Self::Arriving(_, _, _, range) => {
                Some(range.end - range.start)
            }
        }
    }

    /// How much of it is sent from memory, with the head, in bytes.
    fn in_memory(&self) -> usize {
        match self {
            Self::Bytes(body) => body.len(),
            Self::Small(small, _) => small.bytes.len(),
            Self::Unsaid | Self::File(..) | Self::Arriving(..) => 0,
        }
    }
}

impl Response {
    /// What a connection is told for which there is no place.
    pub(super) const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

    fn new(status: u16, headers: Headers, body: Body) -> Self {
        Self { status, headers, body }
    }

    /// A plain text.
    pub(super) fn text(status: u16, text: impl Into<String>) -> Self {
        let headers = vec![("Content-Type", TEXT.into())];
        Self::new(status, headers, Body::Bytes(text.into().into_bytes()))
    }

    /// Whatever bytes.
    pub(super) fn bytes(bytes: Vec<u8>) -> Self {
        let headers = vec![("Content-Type", "application/octet-stream".into())];
        Self::new(200, headers, Body::Bytes(bytes))
    }

    /// A sentence that says why there is nothing else.
    pub(super) fn refusal(status: u16, why: &str) -> Self {
        Self::text(status, format!("{why}\n"))
    }

    /// The head of a text that is made only when it is really asked for.
    pub(super) fn unmade_text() -> Self {
        let headers = vec![("Content-Type", TEXT.into())];
        Self::new(200, headers, Body::Unsaid)
    }

    /// The same with another header line.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// A file that was fetched by `name`, or the part of it that the request asks for.
    pub(super) fn fetched(file: Fetched, name: &str, head: &Head) -> Self {
        match file {
            Fetched::Open(file) => Self::file(file, name, head),
            Fetched::Small(small) => {
                let (len, version) = (small.bytes.len() as u64, small.version.clone());
                Self::select(len, version, name, head, |range| Body::Small(small, range))
            }
        }
    }

    /// A file, or the part of it that the request asks for.
    pub(super) fn file(file: OpenFile, name: &str, head: &Head) -> Self {
        let (len, version) = (file.len, file.version());
        Self::select(len, version, name, head, |range| Body::File(file.file, range))
    }

    /// The part that the request asks for of a file that is so long.
    fn select(
        len: u64,
        version: Version,
        name: &str,
        head: &Head,
        body: impl FnOnce(Range<u64>) -> Body,
    ) -> Self {
        let Version { tag, date } = version;
        let unchanged = head.if_none_match.as_deref().is_some_and(|tags| matches_tag(tags, &tag));
        // The rest of a file that has changed since is worth nothing (RFC 9110, section 13.1.5).
        let may_be_part = head.if_range.as_deref().is_none_or(|expected| expected.trim() == &*tag);
        let mut headers = vec![
            ("Content-Type", content_type(name).into()),
            ("Accept-Ranges", "bytes".into()),
            ("Last-Modified", date.into()),
            ("ETag", tag.into()),
        ];
        if unchanged {
            return Self::new(304, headers, Body::Unsaid);
        }
        match select(head.range.as_deref().filter(|_| may_be_part), len) {
            Part::Whole => Self::new(200, headers, body(0..len)),
            Part::Bytes(range) => {
                let (first, last) = (range.start, range.end - 1);
                headers.push(("Content-Range", format!("bytes {first}-{last}/{len}").into()));
                Self::new(206, headers, body(range))
            }
            Part::Unsatisfiable => Self::refusal(416, "the range lies outside of the file")
                .with("Content-Range", format!("bytes */{len}")),
        }
    }

    /// A file that is still coming and will have `len` bytes, or the part of it that the request asks for. It has no tag
    /// and no date yet, so conditions are not looked at.
    pub(super) fn arriving(
        file: Arc<File>,
        len: u64,
        flight: watch::Receiver<Phase>,
        name: &str,
        head: &Head,
    ) -> Self {
        let mut headers =
            vec![("Content-Type", content_type(name).into()), ("Accept-Ranges", "bytes".into())];
        match select(head.range.as_deref().filter(|_| head.if_range.is_none()), len) {
            Part::Whole => Self::new(200, headers, Body::Arriving(file, len, flight, 0..len)),
            Part::Bytes(range) => {
                let (first, last) = (range.start, range.end - 1);
                headers.push(("Content-Range", format!("bytes {first}-{last}/{len}").into()));
                Self::new(206, headers, Body::Arriving(file, len, flight, range))
            }
            Part::Unsatisfiable => Self::refusal(416, "the range lies outside of the file")
                .with("Content-Range", format!("bytes */{len}")),
        }
    }

    /// Sends the answer to `head`, and says how long the body was; the connection is closed afterwards unless
    /// `keep_alive`.
    ///
    /// # Errors
    /// When the connection broke, the client took nothing for [`STALL`], or the file became shorter meanwhile:
    /// then the length that was announced can't be kept, and closing is the only honest end.
    pub(super) async fn send(
        self,
        stream: &TcpStream,
        head: Option<&Head>,
        keep_alive: bool,
    ) -> io::Result<u64> {
        let mut bytes = self.head_bytes(head.is_some_and(|h| h.old), keep_alive).into_bytes();
        let with_body = head.is_none_or(|h| h.method == Method::Get);
        match self.body {
            Body::Small(small, range) if with_body => {
                let part = |at| usize::try_from(at).unwrap_or(usize::MAX);
                let part = small.bytes.get(part(range.start)..part(range.end)).unwrap_or_default();
                bytes.extend_from_slice(part);
                send_all(stream, &bytes, 0).await?;
                Ok(part.len() as u64)
            }
            // Read and sent with its head in one call, instead of three for the head, the file, and telling the kernel how it
            // will be read.
            Body::File(file, range)
                if with_body && !range.is_empty() && range.end - range.start <= MAX_SMALL =>
            {
                let (head, len) = (bytes.len(), range.end - range.start);
                bytes.resize(head + usize::try_from(len).unwrap_or_default(), 0);
                file.read_exact_at(bytes.get_mut(head..).unwrap_or_default(), range.start)?;
                send_all(stream, &bytes, 0).await?;
                Ok(len)
            }
            Body::File(file, range) if with_body && !range.is_empty() => {
                // More is to come: the head goes out together with the file's first bytes.
                send_all(stream, &bytes, libc::MSG_MORE).await?;
                send_file(stream, &file, range.clone()).await?;
                Ok(range.end - range.start)
            }
            Body::Arriving(file, len, flight, range) if with_body && !range.is_empty() => {
                send_all(stream, &bytes, 0).await?;
                send_arriving(stream, &file, len, flight, range.clone()).await?;
                Ok(range.end - range.start)
            }
            Body::Bytes(body) if with_body => {
                bytes.extend_from_slice(&body);
                send_all(stream, &bytes, 0).await?;
                Ok(body.len() as u64)
            }
            _ => send_all(stream, &bytes, 0).await.map(|()| 0),
        }
    }

    fn head_bytes(&self, old: bool, keep_alive: bool) -> String {
        let mut head = String::with_capacity(HEAD_ROOM + self.body.in_memory());
        // To write to a text can't fail.
        let _ = write!(head, "HTTP/1.1 {} {}\r\nServer: bootd\r\n", self.status, reason(self.status));
        let mut line = |name: &str, value: &str| head.extend([name, ": ", value, "\r\n"]);
        DATE.with_borrow_mut(|date| line("Date", date.now()));
        for (name, value) in &self.headers {
            line(name, value.as_ref());
        }
        if let Some(len) = self.body.len() {
            let _ = write!(head, "Content-Length: {len}\r\n");
        }
        let mut line = |name: &str, value: &str| head.extend([name, ": ", value, "\r\n"]);
        match (old, keep_alive) {
            (_, false) => line("Connection", "close"),
            (true, true) => line("Connection", "keep-alive"),
            (false, true) => {}
        }
        head.push_str("\r\n");
        head
    }
}

/// The time as HTTP writes it, written anew when it is another second.
#[derive(Debug, Default)]
struct Date {
    second: u64,
    text: String,
}

thread_local! {
    static DATE: RefCell<Date> = RefCell::default();
}

impl Date {
    fn now(&mut self) -> &str {
        let now = SystemTime::now();
        let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if second != self.second || self.text.is_empty() {
            *self = Self { second, text: httpdate::fmt_http_date(now) };
        }
        &self.text
    }
}

async fn send_all(stream: &TcpStream, mut bytes: &[u8], flags: i32) -> io::Result<()> {
    while !bytes.is_empty() {
        let send = || SockRef::from(stream).send_with_flags(bytes, flags);
        // There is room most of the time, and a clock that isn't needed need not be set.
        let sent = match stream.try_io(Interest::WRITABLE, send) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                timeout(STALL, stream.async_io(Interest::WRITABLE, send)).await??
            }
            sent => sent?,
        };
        bytes = bytes.get(sent..).unwrap_or_default();
    }
    Ok(())
}

async fn send_file(stream: &TcpStream, file: &File, range: Range<u64>) -> io::Result<()> {
    // Makes the kernel read ahead in larger steps. What it says does not matter.
    let _ = fadvise(file, range.start, None, Advice::Sequential);
    let mut offset = range.start;
    while offset < range.end {
        let piece = usize::try_from((range.end - offset).min(PIECE)).unwrap_or(usize::MAX);
        let send =
            stream.async_io(Interest::WRITABLE, || Ok(sendfile(stream, file, Some(&mut offset), piece)?));
        if timeout(STALL, send).await?? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was sent",
            ));
        }
        // Where there is always room for more, this would go on to the end of the file.
        yield_now().await;
    }
    Ok(())
}

/// Sends of a file what there is, then what comes. Its end is sent when all of it is known to be right; if it is not, the
/// connection is closed before.
async fn send_arriving(
    stream: &TcpStream,
    file: &File,
    len: u64,
    mut flight: watch::Receiver<Phase>,
    range: Range<u64>,
) -> io::Result<()> {
    let mut at = range.start;
    loop {
        let there = match &*flight.borrow_and_update() {
            Phase::Asked => 0,
            Phase::Arriving { written, .. } => (*written).min(len.saturating_sub(HELD_BACK)),
            Phase::Stored => len,
            Phase::Failed(e) => return Err(io::Error::other(e.to_string())),
        };
        let until = there.min(range.end);
        if until > at {
            send_file(stream, file, at..until).await?;
            at = until;
        }
        if at == range.end {
            return Ok(());
        }
        // The flight ends by itself if its upstream says nothing.
        let ended = |_| io::Error::other("the fetch ended without a word");
        if there < len {
            flight.changed().await.map_err(ended)?;
        }
    }
}

/// Changes whenever the file does: a copy of the same length within one tick of the clock is not told apart.
fn matches_tag(tags: &str, tag: &str) -> bool {
    tags.split(',').map(str::trim).any(|t| t == "*" || t.strip_prefix("W/").unwrap_or(t) == tag)
}

/// The media type of a file. UEFI HTTP boot runs only what has one of the first three (EDK2,
/// `HttpBootSupport.c`); a type that it does not know ends the boot.
fn content_type(name: &str) -> &'static str {
    let suffix = name.rsplit_once('.').map_or("", |(_, suffix)| suffix);
    let kinds = [
        ("efi", "application/efi"),
        ("iso", "application/vnd.efi-iso"),
        ("img", "application/vnd.efi-img"),
        ("ipxe", TEXT),
        ("txt", TEXT),
        ("cfg", TEXT),
        ("conf", TEXT),
        ("json", "application/json"),
        ("xml", "application/xml"),
    ];
    let kind = kinds.iter().find(|(known, _)| known.eq_ignore_ascii_case(suffix));
    kind.map_or("application/octet-stream", |(_, kind)| kind)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        504 => "Gateway Timeout",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::serve::http::head::parse;

    fn head_of(request: &str) -> Head {
        parse(format!("{request}\r\n\r\n").as_bytes()).unwrap().unwrap().0
    }

    fn response(request: &str, name: &str) -> String {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        let head = head_of(request);
        Response::file(OpenFile { file, len: 10, modified }, name, &head)
            .head_bytes(head.old, head.keep_alive)
    }

    #[test]
    fn heads_say_what_uefi_looks_for() {
        let head = response("GET /files/snponly.EFI HTTP/1.1", "snponly.EFI");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Type: application/efi\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Length: 10\r\n"), "{head}");
        assert!(head.contains("\r\nLast-Modified: Thu, 01 Jan 1970 00:00:01 GMT\r\n"), "{head}");
        assert!(!head.contains("Connection"), "persistent is what HTTP/1.1 is anyway: {head}");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
    }

    #[test]
    fn an_old_client_is_told_whether_the_connection_stays() {
        assert!(response("GET /a HTTP/1.0", "a").contains("\r\nConnection: close\r\n"));
        assert!(
            response("GET /a HTTP/1.0\r\nConnection: keep-alive", "a")
                .contains("\r\nConnection: keep-alive\r\n")
        );
        assert!(response("GET /a HTTP/1.1\r\nConnection: close", "a").contains("\r\nConnection: close\r\n"));
    }

    #[test]
    fn ranges_and_conditions_decide_on_the_status() {
        let tag = "\"3b9aca00-a\"";
        for (lines, status, line) in [
            ("Range: bytes=2-4".to_owned(), 206, "Content-Range: bytes 2-4/10"),
            ("Range: bytes=2-4".to_owned(), 206, "Content-Length: 3"),
            ("Range: bytes=-4".to_owned(), 206, "Content-Range: bytes 6-9/10"),
            ("Range: bytes=10-".to_owned(), 416, "Content-Range: bytes */10"),
            (format!("If-Range: {tag}\r\nRange: bytes=2-4"), 206, "Content-Length: 3"),
            ("If-Range: \"old\"\r\nRange: bytes=2-4".to_owned(), 200, "Content-Length: 10"),
            (format!("If-None-Match: \"x\", {tag}"), 304, "ETag: \"3b9aca00-a\""),
            (format!("If-None-Match: W/{tag}"), 304, "ETag: \"3b9aca00-a\""),
            ("If-None-Match: \"x\"".to_owned(), 200, "Content-Length: 10"),
        ] {
            let head = response(&format!("GET /a HTTP/1.1\r\n{lines}"), "a");
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{lines}: {head}");
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{lines}: {head}");
        }
    }
}
