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
    ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, ETAG, HOST, HeaderName, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, LAST_MODIFIED, LOCATION, USER_AGENT,
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

/// What is known of a file that is stored, so that it is sent only if it has changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
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
    /// Its length, if that is said.
    pub(super) len: Option<u64>,
    /// Its entity tag and date, as they were said.
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
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

    /// When the file was made, as the upstream says.
    pub(super) fn modified(&self) -> Option<SystemTime> {
        httpdate::parse_http_date(self.last_modified.as_deref()?).ok()
    }
}

/// Asks for the file at `url`.
///
/// # Errors
/// When it can't be had.
pub(super) async fn ask(upstream: &Upstream, url: &Url, known: &Known) -> Result<Answer, MirrorError> {
    let mut at = url.clone();
    for _ in 0..=MAX_REDIRECTS {
        let (response, connection) = request(&at, known, upstream.silence).await?;
        let status = response.status();
        match status {
            StatusCode::OK => {
                return Ok(Answer::File(Box::new(arriving(&at, upstream.silence, response, connection))));
            }
            StatusCode::NOT_MODIFIED if known.etag.is_some() || known.last_modified.is_some() => {
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
    Arriving {
        len: header(&response, CONTENT_LENGTH).and_then(|len| len.parse().ok()),
        etag: header(&response, ETAG),
        last_modified: header(&response, LAST_MODIFIED),
        url: url.to_string(),
        silence,
        body: response.into_body(),
        _connection: connection,
    }
}

fn header(response: &Response<Incoming>, name: HeaderName) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

async fn request(
    url: &Url,
    known: &Known,
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
        Stream::Plain(stream) => send(url, known, silence, stream).await,
        Stream::Tls(stream) => send(url, known, silence, *stream).await,
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

async fn send(
    url: &Url,
    known: &Known,
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
    if let Some(etag) = &known.etag {
        request = request.header(IF_NONE_MATCH, etag);
    }
    if let Some(date) = &known.last_modified {
        request = request.header(IF_MODIFIED_SINCE, date);
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
