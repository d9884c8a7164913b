//! Asking an upstream for a file: one connection for one file, by HTTP/1.1 or by that over TLS.
//!
//! Every wait has an end. Redirections are followed by us, one by one, each looked at.

use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HOST, HeaderName,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE, USER_AGENT,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::error::MirrorError;
use super::upstream::{Scheme, Upstream, Url};

/// How long an upstream may take to be reached, for each of its addresses together.
const CONNECT: Duration = Duration::from_secs(10);

/// The most redirections that are followed for one file. More are a circle.
const MAX_REDIRECTS: usize = 5;

/// How long ago a file must have been changed for its date to tell it from all of its other versions, whose dates count in
/// seconds (RFC 9110, section 8.8.2.2).
const SETTLED: Duration = Duration::from_secs(60);

/// How an upstream names a version of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Version {
    /// Its entity tag and date, as they were said.
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
}

impl Version {
    /// What no other version has: only by that may pieces be put together (RFC 9110, section 13.1.5).
    pub(super) fn unique(&self) -> Option<&str> {
        match &self.etag {
            Some(etag) => Some(etag.as_str()).filter(|etag| !etag.starts_with("W/")),
            None => {
                let age = SystemTime::now().duration_since(self.modified()?).ok()?;
                self.last_modified.as_deref().filter(|_| age >= SETTLED)
            }
        }
    }

    /// When it was made, as the upstream says.
    pub(super) fn modified(&self) -> Option<SystemTime> {
        httpdate::parse_http_date(self.last_modified.as_deref()?).ok()
    }
}

/// Which part of a file is wanted.
pub(super) enum Wish<'a> {
    /// All of it, unless it is this version.
    Changed(&'a Version),
    /// What comes behind so many bytes of that version, of which nothing is said if no other could be taken for it.
    Rest(u64, Option<&'a str>),
}

/// What an upstream answers.
pub(super) enum Answer {
    /// What is stored is still so.
    Unchanged,
    /// The file.
    File(Box<Arriving>),
}

/// A file that begins to come.
pub(super) struct Arriving {
    /// The length of all of it, if that is said.
    pub(super) len: Option<u64>,
    /// Where in it begins what comes.
    pub(super) from: u64,
    pub(super) version: Version,
    url: String,
    silence: Duration,
    body: Incoming,
    /// Drives the connection; ended with this.
    _connection: Connection,
}

struct Connection(tokio::task::JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Arriving {
    /// The next bytes; `None` at the file's end.
    ///
    /// # Errors
    /// When the upstream breaks off or is silent.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, MirrorError> {
        loop {
            let frame = match timeout(self.silence, self.body.frame()).await {
                Err(_) => return Err(MirrorError::Silent { url: self.url.clone(), after: self.silence }),
                Ok(None) => return Ok(None),
                Ok(Some(Err(e))) => return Err(broken(&self.url, &e)),
                Ok(Some(Ok(frame))) => frame,
            };
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
    }
}

/// Asks for the file at `url`.
///
/// # Errors
/// When it can't be had.
pub(super) async fn ask(upstream: &Upstream, url: &Url, wish: &Wish<'_>) -> Result<Answer, MirrorError> {
    let mut at = url.clone();
    for _ in 0..=MAX_REDIRECTS {
        let (response, connection) = request(&at, wish, upstream.silence).await?;
        let status = response.status();
        match status {
            StatusCode::OK => {
                return Ok(Answer::File(Box::new(arriving(&at, upstream.silence, response, connection))));
            }
            StatusCode::PARTIAL_CONTENT if matches!(wish, Wish::Rest(..)) => {
                let arriving = rest(arriving(&at, upstream.silence, response, connection), wish);
                let wrong = || MirrorError::Upstream {
                    url: at.to_string(),
                    what: "the upstream sends another piece than it was asked for".into(),
                };
                return arriving.map(|arriving| Answer::File(Box::new(arriving))).ok_or_else(wrong);
            }
            StatusCode::NOT_MODIFIED if matches!(wish, Wish::Changed(known) if **known != Version::default()) =>
            {
                return Ok(Answer::Unchanged);
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                return Err(MirrorError::NotThere { url: at.to_string(), status: status.as_u16() });
            }
            _ if status.is_redirection() => {
                let location = header(&response, LOCATION).unwrap_or_default();
                at = upstream.follow(&at, &location).ok_or_else(|| MirrorError::Redirected {
                    mirror: upstream.name.clone(),
                    url: at.to_string(),
                    location: location.escape_default().take(200).collect(),
                })?;
            }
            _ => return Err(MirrorError::Status { url: at.to_string(), status: status.as_u16() }),
        }
    }
    Err(MirrorError::Upstream { url: url.to_string(), what: "the upstream sends us round in circles".into() })
}

fn arriving(url: &Url, silence: Duration, response: Response<Incoming>, connection: Connection) -> Arriving {
    let piece = header(&response, CONTENT_RANGE).as_deref().and_then(content_range);
    Arriving {
        len: match piece {
            Some((_, len)) => len,
            None => header(&response, CONTENT_LENGTH).and_then(|len| len.parse().ok()),
        },
        from: piece.map_or(0, |(from, _)| from),
        version: Version { etag: header(&response, ETAG), last_modified: header(&response, LAST_MODIFIED) },
        url: url.to_string(),
        silence,
        body: response.into_body(),
        _connection: connection,
    }
}

/// A piece of a file, if it is the one that was asked for.
fn rest(arriving: Arriving, wish: &Wish<'_>) -> Option<Arriving> {
    let Wish::Rest(from, _) = wish else { return None };
    (arriving.from == *from).then_some(arriving)
}

/// Where the piece begins that `Content-Range` tells of, and how long all of it is: `bytes 500-999/1000`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, all) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, to) = range.split_once('-')?;
    let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
    let all = if all == "*" { None } else { Some(all.parse().ok()?) };
    // What ends before the file does would have to be asked for again.
    let is_rest = from <= to && all.is_none_or(|all: u64| to.checked_add(1) == Some(all));
    is_rest.then_some((from, all))
}

fn header(response: &Response<Incoming>, name: HeaderName) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

async fn request(
    url: &Url,
    wish: &Wish<'_>,
    silence: Duration,
) -> Result<(Response<Incoming>, Connection), MirrorError> {
    let io =
        |e: io::Error| MirrorError::Upstream { url: url.to_string(), what: format!("can't be reached: {e}") };
    let connect = async {
        let stream = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(io)?;
        let _ = stream.set_nodelay(true);
        match url.scheme {
            Scheme::Http => Ok(Stream::Plain(stream)),
            Scheme::Https => Ok(Stream::Tls(Box::new(tls(url, stream).await?))),
        }
    };
    let late = |_| MirrorError::Silent { url: url.to_string(), after: CONNECT };
    match timeout(CONNECT, connect).await.map_err(late)?? {
        Stream::Plain(stream) => send(url, wish, silence, stream).await,
        Stream::Tls(stream) => send(url, wish, silence, *stream).await,
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

async fn send(
    url: &Url,
    wish: &Wish<'_>,
    silence: Duration,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<(Response<Incoming>, Connection), MirrorError> {
    let (mut sender, connection) =
        within(url, silence, http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream))).await?;
    let connection = Connection(tokio::spawn(async move {
        // How it ended is told by the request that it was for.
        let _ = connection.await;
    }));
    let mut request = Request::get(&url.path)
        .header(HOST, url.authority())
        .header(USER_AGENT, concat!("bootd/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "*/*")
        // What is compressed on the way would have neither the length nor the sum of the file.
        .header(ACCEPT_ENCODING, "identity")
        .header(CONNECTION, "close");
    let mut with = |name: HeaderName, value: &str| request = std::mem::take(&mut request).header(name, value);
    match wish {
        Wish::Changed(Version { etag, last_modified }) => {
            etag.iter().for_each(|etag| with(IF_NONE_MATCH, etag));
            last_modified.iter().for_each(|date| with(IF_MODIFIED_SINCE, date));
        }
        Wish::Rest(from, version) => {
            with(RANGE, &format!("bytes={from}-"));
            version.iter().for_each(|version| with(IF_RANGE, version));
        }
    }
    let request = request.body(Empty::new()).map_err(|e| MirrorError::Internal(e.to_string()))?;
    let response = within(url, silence, sender.send_request(request)).await?;
    Ok((response, connection))
}

async fn within<T>(
    url: &Url,
    silence: Duration,
    work: impl Future<Output = hyper::Result<T>>,
) -> Result<T, MirrorError> {
    match timeout(silence, work).await {
        Ok(done) => done.map_err(|e| broken(&url.to_string(), &e)),
        Err(_) => Err(MirrorError::Silent { url: url.to_string(), after: silence }),
    }
}

fn broken(url: &str, error: &hyper::Error) -> MirrorError {
    use std::error::Error as _;
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    let ended = cause.is_some_and(|cause| cause.kind() == io::ErrorKind::UnexpectedEof);
    let what = if ended || error.is_incomplete_message() {
        "the upstream broke off before the file's end".to_owned()
    } else {
        error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
    };
    MirrorError::Upstream { url: url.to_owned(), what }
}

async fn tls(
    url: &Url,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, MirrorError> {
    let wrong = |what: String| MirrorError::Upstream { url: url.to_string(), what };
    let name = ServerName::try_from(url.host.clone()).map_err(|e| wrong(e.to_string()))?;
    let connector = TlsConnector::from(trust().map_err(wrong)?);
    connector.connect(name, stream).await.map_err(|e| wrong(format!("no TLS: {e}")))
}

/// Whom the system trusts: read once, when the first upstream by HTTPS is asked.
fn trust() -> Result<Arc<ClientConfig>, String> {
    static TRUST: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    let trust = TRUST.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            return Err(
                "this machine trusts nobody for HTTPS: install its ca-certificates, then start bootd again"
                    .into(),
            );
        }
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    });
    trust.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_goes_on_to_the_end_is_the_rest() {
        assert_eq!(content_range("bytes 500-999/1000"), Some((500, Some(1000))));
        assert_eq!(content_range("bytes 500-999/*"), Some((500, None)));
        for wrong in [
            "bytes 500-998/1000",
            "bytes 999-500/1000",
            "bytes */1000",
            "bytes 0-18446744073709551615/18446744073709551615",
            "500-999/1000",
            "bytes 500-/1000",
            "",
        ] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_by_what_no_other_version_has_are_pieces_put_together() {
        let version = |etag: &str, date: Option<SystemTime>| Version {
            etag: Some(etag.to_owned()).filter(|etag| !etag.is_empty()),
            last_modified: date.map(httpdate::fmt_http_date),
        };
        let now = SystemTime::now();
        let old = now - Duration::from_secs(3600);
        assert_eq!(version("\"a\"", None).unique(), Some("\"a\""));
        assert_eq!(version("W/\"a\"", Some(old)).unique(), None);
        assert_eq!(version("", Some(old)).unique(), Some(httpdate::fmt_http_date(old).as_str()));
        assert_eq!(version("", Some(now)).unique(), None, "it may change within this second");
        assert_eq!(version("", None).unique(), None);
    }
}
