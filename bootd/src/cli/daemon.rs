//! Talks to the running daemon over its Unix socket.

use std::io;
use std::path::PathBuf;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::StreamExt;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::Failure;
use crate::config::{Config, Flags, socket_in};
use crate::control::api::Problem;
use crate::control::entities::who::{SUDO_USER, WHY};

/// The largest answer that is read, in bytes. A larger one is an error: no daemon of ours sends it.
const LARGEST_ANSWER: usize = 64 << 20;

/// A body of no content.
pub(crate) const NOTHING: Option<&()> = None;

/// The daemon that serves from a data directory.
pub(crate) struct Daemon {
    socket: PathBuf,
    /// What the changes are for.
    why: Option<String>,
}

/// An answer that comes piece by piece.
pub(crate) struct Pieces<'a> {
    daemon: &'a Daemon,
    body: BodyDataStream,
}

impl Pieces<'_> {
    /// The next piece; `None`: that was all.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        let piece = self.body.next().await?;
        Some(piece.map_err(|e| self.daemon.broken(&e.to_string())))
    }
}

impl Daemon {
    /// The daemon of the data directory that the flags or the file name.
    pub(crate) fn of(flags: &Flags) -> Result<Self, Failure> {
        let data = Config::data_directory(flags).map_err(Failure::new)?;
        Ok(Self { socket: socket_in(&data), why: None })
    }

    /// The same, told what the changes are for.
    pub(crate) fn why(self, why: Option<&str>) -> Self {
        Self { why: why.map(str::to_owned), ..self }
    }

    /// Asks for something, and reads the answer.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call(Method::GET, path, NOTHING).await
    }

    /// Sends a request, and reads the answer.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        let answer = self.send(method, path, body).await?;
        let bytes = axum::body::to_bytes(Body::new(answer.into_body()), LARGEST_ANSWER)
            .await
            .map_err(|e| self.broken(&e.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|e| self.broken(&e.to_string()))
    }

    /// Sends a request whose answer comes line by line, and hands each line to `each`.
    pub(crate) async fn lines<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        mut each: impl FnMut(T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let answer = self.send(Method::POST, path, Some(body)).await?;
        let mut body = Body::new(answer.into_body()).into_data_stream();
        let mut rest = Vec::new();
        while let Some(piece) = body.next().await {
            rest.extend_from_slice(&piece.map_err(|e| self.broken(&e.to_string()))?);
            if rest.len() > LARGEST_ANSWER {
                return Err(self.broken("a line without end"));
            }
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                each(serde_json::from_slice(&line).map_err(|e| self.broken(&e.to_string()))?)?;
            }
        }
        Ok(())
    }

    /// Asks for something whose answer comes piece by piece.
    pub(crate) async fn bytes(&self, path: &str) -> Result<Pieces<'_>, Failure> {
        let answer = self.send(Method::GET, path, NOTHING).await?;
        Ok(Pieces { daemon: self, body: Body::new(answer.into_body()).into_data_stream() })
    }

    /// Sends a request; an answer that is an error becomes a failure.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Response<hyper::body::Incoming>, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.not_there(&e))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.broken(&e.to_string()))?;
        tokio::spawn(connection);
        let body = match body {
            Some(body) => serde_json::to_vec(body).map_err(|e| self.broken(&e.to_string()))?,
            None => Vec::new(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "bootd")
            .header(CONTENT_TYPE, "application/json");
        let sudo_user = std::env::var("SUDO_USER").ok();
        for (name, said) in [(SUDO_USER, &sudo_user), (WHY, &self.why)] {
            // What no header can hold is left out: it is only for the log.
            let value = said.as_ref().map(|said| HeaderValue::from_bytes(said.replace('\n', " ").as_bytes()));
            if let Some(Ok(value)) = value {
                request = request.header(name, value);
            }
        }
        let request = request.body(Body::from(body)).map_err(|e| self.broken(&e.to_string()))?;
        let answer = sender.send_request(request).await.map_err(|e| self.broken(&e.to_string()))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let bytes =
            axum::body::to_bytes(Body::new(answer.into_body()), LARGEST_ANSWER).await.unwrap_or_default();
        Err(match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => Failure::from(problem),
            Err(_) => self.broken(&format!("{status}")),
        })
    }

    fn not_there(&self, error: &io::Error) -> Failure {
        let socket = self.socket.display();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure {
                error: format!("no daemon is running there: tried the socket {socket}"),
                hint: Some(
                    "start it with: bootd serve --interface NAME; if it keeps its data elsewhere, say where with --data DIR"
                        .into(),
                ),
            },
            io::ErrorKind::PermissionDenied => Failure {
                error: format!("this user may not talk to the daemon: {socket}: {error}"),
                hint: Some("run the command as the user the daemon runs as, usually root".into()),
            },
            _ => Failure { error: format!("can't talk to the daemon: {socket}: {error}"), hint: None },
        }
    }

    fn broken(&self, why: &str) -> Failure {
        Failure {
            error: format!("the daemon's answer broke off or makes no sense: {why}"),
            hint: Some(format!(
                "look at the daemon's log; are both this command and the daemon behind {} bootd {}?",
                self.socket.display(),
                env!("CARGO_PKG_VERSION")
            )),
        }
    }
}
