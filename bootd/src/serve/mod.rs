//! One file per socket: receive, call the pure core, send.
//!
//! Every service is a struct with the same two calls, so that [`app`](crate::app) can order and drain them:
//! - `fn bind(..) -> Result<Self, ServiceError>`: opens the socket, or takes the one that was held open for it, and
//!   does all that needs a capability. It runs before the asynchronous runtime exists: plain `std` or `socket2`
//!   sockets, set non-blocking.
//! - `async fn run(self, state: Arc<State>, stop: CancellationToken) -> Result<(), ServiceError>`: serves until
//!   `stop` is cancelled, drains, and returns. Returning for any other reason is an error that ends the daemon.

use std::io;
use std::net::{SocketAddrV4, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::state::Link;
use crate::systemd::Given;

pub(crate) mod dhcp;
pub(crate) mod files;
pub(crate) mod http;
pub(crate) mod iscsi;
pub(crate) mod journal;
pub(crate) mod ra;
pub(crate) mod tftp;

pub(crate) mod limit;
pub(crate) mod script;
mod visitor;

/// Why a service could not start or had to end. It is the operator's to mend, so it says how.
#[derive(Debug, thiserror::Error)]
#[error("{service}: {what}: {source}{}", remedy.as_deref().map(|r| format!("; {r}")).unwrap_or_default())]
pub(crate) struct ServiceError {
    /// `dhcp`, `tftp`, `http`, `iscsi`, `ra`, `control`; `start` where it is none of them.
    pub(crate) service: &'static str,
    /// What was being done: "can't listen on 10.0.0.1:69".
    pub(crate) what: String,
    /// What the operator can do, where that is known.
    pub(crate) remedy: Option<String>,
    /// The system's reason.
    pub(crate) source: io::Error,
}

impl ServiceError {
    /// The error of `service` that failed at `what`.
    pub(crate) fn new(service: &'static str, what: impl Into<String>, source: io::Error) -> Self {
        Self { service, what: what.into(), remedy: None, source }
    }

    /// The same, with what to do about it.
    #[must_use]
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// Lets the tasks of a `service`, one for each link, run until `stop`.
///
/// # Errors
/// When one of them breaks down before: its link would be served no more, and nobody would know.
async fn run_until(
    service: &'static str,
    mut links: JoinSet<()>,
    stop: &CancellationToken,
) -> Result<(), ServiceError> {
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        Some(ended) = links.join_next() => Some(ended),
    };
    links.shutdown().await;
    match ended {
        None => Ok(()),
        Some(ended) => {
            let source = ended.map_or_else(io::Error::other, |()| io::Error::other("it ended by itself"));
            Err(ServiceError::new(service, "the task of an interface broke down", source)
                .remedy("this is a bug in bootd"))
        }
    }
}

/// How many connections may wait to be accepted; the kernel ignores the others' first packets, and they ask again.
const BACKLOG: i32 = 1024;

/// Listens on TCP `port` of each link's address, by the socket that was `given` for it if there is one; `key` is the
/// setting that avoids the port.
///
/// # Errors
/// When an address can't be listened on.
fn listen_on(
    service: &'static str,
    links: &[Link],
    port: u16,
    key: &str,
    given: &mut Given,
) -> Result<Vec<TcpListener>, ServiceError> {
    let on = |link: &Link| {
        let address = SocketAddrV4::new(link.interface.address, port);
        if let Some(listener) = given.take(address) {
            return Ok(listener);
        }
        let listener = listen(address).map_err(|e| listen_error(service, address, key, e))?;
        given.keep(address, &listener);
        Ok(listener)
    };
    links.iter().map(on).collect()
}

fn listen(address: SocketAddrV4) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    // Otherwise the port could not be taken again for a minute after a restart.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What `open` opens at `port` of the links' other addresses, each with the number of its link. Clients are told of none of
/// these, so one that can't be had, because another program serves it for instance, is no more than news.
fn beside<T>(
    service: &'static str,
    links: &[Link],
    port: u16,
    open: impl Fn(SocketAddrV4) -> io::Result<T>,
) -> Vec<(usize, T)> {
    let all = links.iter().enumerate().flat_map(|(index, link)| {
        link.others.iter().map(move |other| (index, SocketAddrV4::new(*other, port)))
    });
    all.filter_map(|(index, address)| match open(address) {
        Ok(opened) => Some((index, opened)),
        Err(e) => {
            tracing::warn!("{service}: not listening on {address}, of which no client is told: {e}");
            None
        }
    })
    .collect()
}

/// The error of a `service` that can't listen on `address`; `key` is the setting that avoids it.
fn listen_error(service: &'static str, address: SocketAddrV4, key: &str, source: io::Error) -> ServiceError {
    let remedy = match source.kind() {
        io::ErrorKind::AddrInUse => Some(format!(
            "another program has this port (`ss -lnp` shows which): stop it, or set {key} of bootd.toml"
        )),
        io::ErrorKind::PermissionDenied => Some(NEEDS_CAPABILITIES.to_owned()),
        io::ErrorKind::AddrNotAvailable => {
            Some("the interface lost this address: give it back, or start bootd again".to_owned())
        }
        _ => None,
    };
    let error = ServiceError::new(service, format!("can't listen on {address}"), source);
    ServiceError { remedy, ..error }
}

/// What to do when the system does not let us.
const NEEDS_CAPABILITIES: &str = "run bootd as root, or with CAP_NET_BIND_SERVICE and CAP_NET_RAW";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_link_whose_task_breaks_down_ends_its_service() {
        let stop = CancellationToken::new();
        let mut links = JoinSet::new();
        links.spawn(std::future::pending());
        links.spawn(async { panic!("a bug") });
        let error = run_until("dhcp", links, &stop).await.unwrap_err().to_string();
        assert!(error.contains("dhcp") && error.contains("a bug"), "{error}");

        let mut links = JoinSet::new();
        links.spawn(std::future::pending());
        stop.cancel();
        run_until("dhcp", links, &stop).await.unwrap();
    }
}
