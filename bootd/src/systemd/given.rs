//! Listening sockets that outlive the process.
//!
//! A client that connects while bootd is being started again must wait in a queue, not be refused. So the sockets on
//! which bootd listens for TCP are in systemd's hands as well, in one of two ways:
//!
//! - **The store.** Each socket that bootd opens is given to systemd (`FDSTORE=1`), which keeps it as long as the
//!   service is not stopped for good, and gives it back at each start. Nothing has to be configured twice.
//! - **A `.socket` unit.** systemd opens the sockets, before bootd starts for the first time even.
//!
//! Both come back as descriptors at the start ([`handed_over`]). Which listener a socket is for is told by its address
//! alone. Names only tell the two ways apart: what the configuration speaks of no more is dropped from the store and is
//! no news, but in a unit it is the operator's mistake, and whoever connects to it would wait for ever.

use std::net::{SocketAddrV4, TcpListener};
use std::os::fd::AsFd as _;

use socket2::{Domain, Socket, Type};

use super::{send, settle};
use crate::serve::ServiceError;
use crate::sys::handed_over;

/// How the names of the sockets in the store begin.
const STORED: &str = "bootd-listens-on-";

/// The sockets that were given at the start and that no listener has taken yet.
#[derive(Debug, Default)]
pub(crate) struct Given {
    sockets: Vec<(Socket, String)>,
    has_unit: bool,
}

impl Given {
    /// Takes over what this process was given when it was started. Call it before anything else is opened.
    ///
    /// # Errors
    /// When what was said of the sockets is not so.
    pub(crate) fn from_systemd() -> Result<Self, ServiceError> {
        let all = handed_over().map_err(|e| {
            ServiceError::new("start", "can't take over the sockets that are held open for bootd", e)
                .remedy("LISTEN_FDS is for systemd to set: look at who starts bootd")
        })?;
        Ok(Self::new(all.into_iter().map(|(fd, name)| (fd.into(), name)).collect()))
    }

    fn new(sockets: Vec<(Socket, String)>) -> Self {
        let has_unit = sockets.iter().any(|(_, name)| !name.starts_with(STORED));
        Self { sockets, has_unit }
    }

    /// Lets go of all sockets but those that listen on `wanted`. To be called before any listener opens its own: one
    /// that does not fit may lie where it must.
    ///
    /// # Errors
    /// When a `.socket` unit opens what bootd does not serve.
    pub(crate) fn keep_only(&mut self, wanted: &[SocketAddrV4]) -> Result<(), ServiceError> {
        let is_wanted =
            |(socket, _): &(Socket, String)| listens_on(socket).is_some_and(|a| wanted.contains(&a));
        let (wanted, others) = std::mem::take(&mut self.sockets).into_iter().partition(is_wanted);
        self.sockets = wanted;
        let mut dropped = false;
        for (socket, name) in others {
            if name.starts_with(STORED) {
                // Where it can't be told, it is told again at the next start.
                let _ = send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None);
                tracing::info!("{}: not configured any more, closed", show(&socket));
                dropped = true;
                continue;
            }
            let what = format!("systemd holds {} open for bootd{}", show(&socket), by(&name));
            let source = std::io::Error::other("bootd does not listen there");
            return Err(ServiceError::new("start", what, source).remedy(
                "a .socket unit may open TCP ports of HTTP and iSCSI only, each at the address of an interface that is \
                 served (ListenStream=10.0.0.1:3260): correct the unit, or bootd.toml",
            ));
        }
        if dropped {
            // Somebody else may want to listen there now: the kernel, for disks that it exports.
            settle();
        }
        Ok(())
    }

    /// The socket that listens on `address`, if one was given.
    pub(crate) fn take(&mut self, address: SocketAddrV4) -> Option<TcpListener> {
        let at = self.sockets.iter().position(|(socket, _)| listens_on(socket) == Some(address))?;
        let (socket, name) = self.sockets.swap_remove(at);
        // It came as systemd had it. Where that can't be changed it is not used, and the port is told to be taken.
        socket.set_nonblocking(true).ok()?;
        tracing::info!("{address}: listening by the socket that was held open{}", by(&name));
        Some(socket.into())
    }

    /// Has `listener`, which was not given, held open from now on.
    pub(crate) fn keep(&self, address: SocketAddrV4, listener: &TcpListener) {
        if self.has_unit {
            tracing::warn!(
                "{address} is in no .socket unit though others are: add ListenStream={address}, or use no unit"
            );
        }
        let message = format!("FDSTORE=1\nFDNAME={STORED}{}", address.to_string().replace(':', "-"));
        if let Err(e) = send(&message, Some(listener.as_fd())) {
            tracing::warn!("{address}: systemd can't hold it open, a restart will refuse connections: {e}");
        }
    }
}

/// Where the socket listens for TCP over IPv4, if it does.
fn listens_on(socket: &Socket) -> Option<SocketAddrV4> {
    let fits = matches!(socket.domain(), Ok(Domain::IPV4))
        && matches!(socket.r#type(), Ok(Type::STREAM))
        && matches!(socket.is_listener(), Ok(true));
    if fits { socket.local_addr().ok()?.as_socket_ipv4() } else { None }
}

/// A socket, for people.
fn show(socket: &Socket) -> String {
    let address = socket.local_addr().ok();
    if let Some(path) = address.as_ref().and_then(|address| address.as_pathname()) {
        return format!("the socket {}", path.display());
    }
    let kind = match socket.r#type() {
        Ok(Type::STREAM) => "TCP ",
        Ok(Type::DGRAM) => "UDP ",
        _ => "",
    };
    match address.and_then(|address| address.as_socket()) {
        Some(address) => format!("{kind}{address}"),
        None => "what is no socket of a network".to_owned(),
    }
}

/// Who holds it, where the unit has a name.
fn by(name: &str) -> String {
    let who = if name.starts_with(STORED) { "systemd's store" } else { name };
    if who.is_empty() { String::new() } else { format!(" ({who})") }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

    use super::*;

    fn listener() -> (Socket, SocketAddrV4) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else { panic!("not IPv4") };
        (listener.into(), address)
    }

    #[test]
    fn a_socket_goes_to_the_listener_of_its_address_and_to_no_other() {
        let ((one, here), (two, there)) = (listener(), listener());
        let mut given = Given::new(vec![(one, "bootd.socket".into()), (two, String::new())]);
        let other = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), here.port());
        assert!(given.take(other).is_none());
        let taken = given.take(there).unwrap();
        assert_eq!(taken.local_addr().unwrap(), there.into());
        assert_eq!(taken.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        assert!(given.take(there).is_none(), "it is taken");
        assert!(given.take(here).is_some());
    }

    #[test]
    fn what_a_unit_opens_and_nobody_serves_is_told_with_what_to_do() {
        let (socket, address) = listener();
        let refused = |mut given: Given| given.keep_only(&[]).unwrap_err().to_string();
        let mut given = Given::new(vec![(socket, "bootd.socket".into())]);
        given.keep_only(&[address]).unwrap();
        let error = refused(given);
        for part in [&format!("TCP {address}"), "bootd.socket", "ListenStream="] {
            assert!(error.contains(part), "{error}");
        }
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let SocketAddr::V4(address) = udp.local_addr().unwrap() else { panic!("not IPv4") };
        let mut given = Given::new(vec![(udp.into(), String::new())]);
        assert!(given.take(address).is_none(), "it is no TCP");
        assert!(refused(given).contains("UDP 127.0.0.1"));
        // Bound, but not listening.
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = bound.local_addr().unwrap().as_socket_ipv4().unwrap();
        assert!(Given::new(vec![(bound, String::new())]).take(address).is_none());
    }

    #[test]
    fn what_the_store_has_from_another_configuration_is_no_error() {
        let (socket, _) = listener();
        let mut given = Given::new(vec![(socket, format!("{STORED}127.0.0.1-3260"))]);
        given.keep_only(&[]).unwrap();
        assert!(given.sockets.is_empty());
    }
}
