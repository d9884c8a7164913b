//! A socket that sees the packets of one machine on one interface, and nothing until it is told whose.
//!
//! To make such a socket takes `CAP_NET_RAW`, which the daemon gives up once it serves. To bind one to a protocol and to
//! give it a filter takes none (`packet(7)`), so it is made at the start, bound to nothing, and put to use when it is
//! needed.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, bind, recv};
use socket2::{Domain, SockFilter, Socket, Type};

use super::packet::link_address;
use super::watched::Readable;

/// All protocols, both ways.
const EVERYTHING: u16 = 0x0003;

/// An Ethernet type for local experiments (IEEE 802, 9.2.4), which no frame of ours has: what an idle tap is bound to.
const NOTHING: u16 = 0x88b5;

/// The instruction that ends a filter, with how much of the frame it lets through.
const RETURN: u16 = 0x06;

/// How much may wait to be read, in bytes. What comes beyond is missing in the capture.
const RECEIVE_BUFFER: usize = 8 << 20;

/// A tap on one interface.
#[derive(Debug)]
pub(crate) struct Tap {
    socket: Socket,
    interface: u32,
}

impl Tap {
    /// An idle one. Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// The system's, `PermissionDenied` above all.
    pub(crate) fn open(interface: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        // The system grants less than that unless it is told to grant more.
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        Ok(Self { socket, interface })
    }

    /// Lets through what `filter` does, from now on.
    ///
    /// # Errors
    /// The system's, `InvalidInput` for a program that is none.
    pub(crate) fn begin(&self, filter: &[libc::sock_filter]) -> io::Result<()> {
        let line = |line: &libc::sock_filter| SockFilter::new(line.code, line.jt, line.jf, line.k);
        self.socket.attach_filter(&filter.iter().map(line).collect::<Vec<_>>())?;
        self.bind(EVERYTHING)
    }

    /// The same tap, ready to be waited for. Call it inside the runtime.
    ///
    /// # Errors
    /// When the system gives no more files, or the runtime can't watch another socket.
    pub(crate) fn watch(&self) -> io::Result<Watched> {
        Ok(Watched(Readable::new(self.socket.try_clone()?)?))
    }

    /// Lets nothing through any more, and forgets what waits.
    pub(crate) fn end(&self) {
        let _ = self.socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)]);
        let _ = self.bind(NOTHING);
        while recv(self.socket.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT).is_ok() {}
    }

    fn bind(&self, protocol: u16) -> io::Result<()> {
        let address = link_address(self.interface, protocol.into(), [0; 6])?;
        Ok(bind(self.socket.as_raw_fd(), &address)?)
    }
}

/// A [`Tap`] that the runtime watches.
#[derive(Debug)]
pub(crate) struct Watched(Readable);

impl Watched {
    /// Waits for the next frame, and says how long it was; the buffer holds as much of it as it has room for.
    ///
    /// # Errors
    /// The system's, `NetworkDown` when the interface went down.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(|socket| Ok(recv(socket, buffer, MsgFlags::MSG_TRUNC)?)).await
    }
}
