//! Waiting for sockets of kinds that the runtime has no types for.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::socket::{LinkAddr, MsgFlags, recvmsg};
use socket2::Socket;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// A socket of any kind that the runtime watches.
#[derive(Debug)]
pub(super) struct Readable {
    /// Not a UDP socket: the type lends its readiness, which is any socket's. Nothing else of it is called.
    socket: UdpSocket,
}

impl Readable {
    /// Watches `socket`, which must not block. Call it inside the runtime.
    ///
    /// # Errors
    /// When the runtime can't watch another socket.
    pub(super) fn new(socket: Socket) -> io::Result<Self> {
        Ok(Self { socket: UdpSocket::from_std(socket.into())? })
    }

    /// Waits until `read` finds something to read.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) async fn read<T>(&self, mut read: impl FnMut(RawFd) -> io::Result<T>) -> io::Result<T> {
        self.socket.async_io(Interest::READABLE, || read(self.as_raw_fd())).await
    }

    /// Waits for the next packet that comes in by `interface`, and says how many bytes of the buffer it fills. The socket must
    /// be one for packets (`AF_PACKET`).
    ///
    /// # Errors
    /// The system's, `NetworkDown` when the interface went down.
    pub(super) async fn packet(&self, interface: u32, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let (len, by) = self
                .read(|socket| {
                    let mut pieces = [IoSliceMut::new(buffer)];
                    let message = recvmsg::<LinkAddr>(socket, &mut pieces, None, MsgFlags::empty())?;
                    Ok((message.bytes, message.address.map(|address| address.ifindex())))
                })
                .await?;
            // A card hears what is for its VLANs' interfaces, too.
            if by == Some(interface as usize) {
                return Ok(len);
            }
        }
    }
}

impl AsRawFd for Readable {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
