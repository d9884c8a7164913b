//! Read requests and their options (RFC 1350 §5, RFC 2347 to 2349, RFC 7440).

use std::time::Duration;

use super::packet::{ErrorCode, RRQ, WRQ, error_packet};

/// The longest request that is looked at, in bytes. RFC 2347 says 512; some clients put long names in more.
pub const MAX_REQUEST_LEN: usize = 1400;

/// How many options of a request are looked at. The rest is ignored, as unknown options are.
const MAX_OPTIONS: usize = 16;

/// What IP, UDP and TFTP put before a block, in bytes. What is left of the path's MTU is the largest block: EDK2 fails
/// at larger ones, which come in fragments (tianocore/edk2#7264, #7632).
const BLOCK_OVERHEAD: u16 = 20 + 8 + 4;

/// The size of a block when nobody asks for another (RFC 1350), and the smallest and largest that may be asked for
/// (RFC 2348).
const DEFAULT_BLKSIZE: u16 = 512;
const MIN_BLKSIZE: u16 = 8;
const MAX_BLKSIZE: u16 = 65464;

/// The most blocks in a window. Clients were seen to break beyond.
const MAX_WINDOWSIZE: u16 = 64;

/// The most bytes in a window, which is what a transfer may put on the wire at once.
const MAX_WINDOW_BYTES: u32 = 256 * 1024;

/// A read request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The file's name as sent; see [`parse_tftp_path`](crate::parse_tftp_path).
    pub filename: String,
    /// How it wants the bytes.
    pub mode: Mode,
    /// What it would like of us.
    pub options: Wanted,
}

/// How a client wants a file's bytes. They are sent as they are in both modes: whoever asks for a text gets it, and
/// tftp-hpa's client asks for `netascii` unless told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// As they are.
    Octet,
    /// As a text with network line ends.
    Netascii,
}

/// The options of a request that are known and valid; any other is ignored, as RFC 2347 has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The size of a block in bytes.
    pub blksize: Option<u16>,
    /// Whether it wants to know the file's length.
    pub tsize: bool,
    /// After how many seconds without an answer a packet is sent again.
    pub timeout: Option<u8>,
    /// How many blocks may be sent before an acknowledgement.
    pub windowsize: Option<u16>,
}

/// What the way to the client allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest IP packet that gets there whole, in bytes.
    pub path_mtu: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self { path_mtu: 1500 }
    }
}

/// Why a datagram is no request that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No request at all. Not answered: two servers must never tell each other of their errors.
    #[error("no TFTP request")]
    NotARequest,
    /// A request to write.
    #[error("files can be read only")]
    Write,
    /// A request that can't be read.
    #[error("malformed TFTP request")]
    Malformed,
    /// A mode other than octet and netascii.
    #[error("only the modes octet and netascii are served")]
    Mode,
}

impl RequestError {
    /// The ERROR packet that tells the client; `None`: it is told nothing.
    #[must_use]
    pub fn packet(&self) -> Option<Vec<u8>> {
        let code = match self {
            Self::NotARequest => return None,
            Self::Write => ErrorCode::AccessViolation,
            Self::Malformed | Self::Mode => ErrorCode::IllegalOperation,
        };
        Some(error_packet(code, &self.to_string()))
    }
}

/// Whether that is a request, of whatever kind. What else comes to the port that requests are sent to is an answer to a
/// transfer that goes from there, or nothing.
#[must_use]
pub fn is_request(bytes: &[u8]) -> bool {
    bytes.first_chunk().is_some_and(|op| matches!(u16::from_be_bytes(*op), RRQ | WRQ))
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// When it is none, can't be read, or asks for what is not done.
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        let (op, rest) = bytes.split_first_chunk::<2>().ok_or(RequestError::NotARequest)?;
        match u16::from_be_bytes(*op) {
            RRQ => {}
            WRQ => return Err(RequestError::Write),
            _ => return Err(RequestError::NotARequest),
        }
        if bytes.len() > MAX_REQUEST_LEN {
            return Err(RequestError::Malformed);
        }
        let mut texts = texts(rest);
        let mut next = || texts.next().ok_or(RequestError::Malformed);
        let filename = trimmed(next()?);
        let filename = std::str::from_utf8(filename).map_err(|_| RequestError::Malformed)?.to_owned();
        let mode = match next()? {
            mode if mode.eq_ignore_ascii_case(b"octet") => Mode::Octet,
            mode if mode.eq_ignore_ascii_case(b"netascii") => Mode::Netascii,
            _ => return Err(RequestError::Mode),
        };
        let mut options = Wanted::default();
        for _ in 0..MAX_OPTIONS {
            let (Some(name), Some(value)) = (texts.next(), texts.next()) else { break };
            options.take(name, value);
        }
        Ok(Self { filename, mode, options })
    }
}

impl Wanted {
    /// Notes an option, unless its value is out of range or it came before.
    fn take(&mut self, name: &[u8], value: &[u8]) {
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
        let Some(number) = number else { return };
        if name.eq_ignore_ascii_case(b"blksize") {
            let size = u16::try_from(number).unwrap_or(u16::MAX);
            if size >= MIN_BLKSIZE {
                self.blksize = self.blksize.or(Some(size.min(MAX_BLKSIZE)));
            }
        } else if name.eq_ignore_ascii_case(b"tsize") {
            self.tsize = true;
        } else if name.eq_ignore_ascii_case(b"timeout") {
            let seconds = u8::try_from(number).ok().filter(|seconds| *seconds > 0);
            self.timeout = self.timeout.or(seconds);
        } else if name.eq_ignore_ascii_case(b"windowsize") {
            let size = u16::try_from(number).ok().filter(|size| *size > 0);
            self.windowsize = self.windowsize.or(size);
        }
    }
}

/// What a transfer goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) blksize: u16,
    pub(super) windowsize: u16,
    /// The longest wait before something is sent again.
    pub(super) timeout: Option<Duration>,
    /// What the client is told; empty: it asked for nothing that is known, and gets no OACK.
    pub(super) told: Vec<(&'static str, u64)>,
}

impl Agreed {
    /// Grants what was asked for, as far as the limits go, and nothing else (RFC 2347).
    pub(super) fn new(wanted: &Wanted, len: u64, limits: &Limits) -> Self {
        let mut told = Vec::new();
        let mut blksize = DEFAULT_BLKSIZE;
        if let Some(size) = wanted.blksize {
            blksize = size.min(limits.path_mtu.saturating_sub(BLOCK_OVERHEAD)).max(MIN_BLKSIZE);
            told.push(("blksize", blksize.into()));
        }
        if wanted.tsize {
            told.push(("tsize", len));
        }
        if let Some(seconds) = wanted.timeout {
            told.push(("timeout", seconds.into()));
        }
        let mut windowsize = 1;
        if let Some(size) = wanted.windowsize {
            let fits = u16::try_from(MAX_WINDOW_BYTES / u32::from(blksize)).unwrap_or(u16::MAX);
            windowsize = size.min(MAX_WINDOWSIZE).min(fits).max(1);
            told.push(("windowsize", windowsize.into()));
        }
        let timeout = wanted.timeout.map(|seconds| Duration::from_secs(seconds.into()));
        Self { blksize, windowsize, timeout, told }
    }
}

/// Without what some UEFI firmware takes for part of its boot program's name: the end mark of the DHCP options behind it,
/// and padding. Neither is ever part of a name, for neither is UTF-8 nor seen.
fn trimmed(name: &[u8]) -> &[u8] {
    let end =
        name.iter().rposition(|byte| !matches!(byte, 0xff | b' ' | b'\r' | b'\n')).map_or(0, |at| at + 1);
    name.get(..end).unwrap_or_default()
}

/// The NUL-ended texts of a request. A last one without its NUL is let pass.
fn texts(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.strip_suffix(&[0]).unwrap_or(bytes).split(|byte| *byte == 0)
}
