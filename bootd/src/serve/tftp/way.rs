//! How a transfer's packets reach its client, and the client's answers the transfer.
//!
//! A transfer has a socket of its own, connected to its client: the kernel keeps others' packets out, knows the path's
//! MTU, and says when nobody listens at the other end. A firewall or a router that translates addresses, if it does not know
//! TFTP, lets none of these packets through, for they come from a port that the client has never spoken to. So the machines
//! that `single_port` names are answered from the port that they asked. Their answers all come to that one, where
//! [`Running`](super::running::Running) tells by the sender whose [`Mailbox`] they are for.
//!
//! What is lost by that is why it is not done for everybody: a client that begins anew from the same port can't tell an earlier
//! transfer's packets from the new one's, whoever knows a client's port can answer in its name, and that a port is closed is
//! not heard of.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, SockaddrLike, sendmsg};
use parking_lot::Mutex;

use super::engine::Bell;
use super::transfer::MAX_ANSWER;

/// How many answers wait for a transfer. A client sends one to a window, so further ones are dropped: they are somebody's who
/// wants to fill our memory, or say what the waiting ones say.
const MAX_LETTERS: usize = 16;

/// How packets reach a client.
#[derive(Debug)]
pub(super) enum Way {
    /// By a socket of the transfer's own, connected to the client; must not block.
    Own(UdpSocket),
    /// From the port that was asked.
    Asked(AskedPort),
}

/// The port that was asked, as one transfer uses it.
#[derive(Debug)]
pub(super) struct AskedPort {
    /// Where all such transfers' packets come from; must not block.
    pub(super) socket: Arc<UdpSocket>,
    /// The client.
    pub(super) peer: SocketAddrV4,
    /// Its answers.
    pub(super) mailbox: Arc<Mailbox>,
}

impl Way {
    /// Sends one packet, or with a `segment` as many as the bytes hold of that length.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn send(&self, bytes: &[u8], segment: Option<u16>) -> io::Result<()> {
        match self {
            Self::Own(socket) => match segment {
                None => socket.send(bytes).map(drop),
                Some(_) => send::<()>(socket.as_raw_fd(), bytes, segment, None),
            },
            Self::Asked(AskedPort { socket, peer, mailbox }) => {
                let over = mailbox.over.lock();
                if *over {
                    return Ok(());
                }
                send(socket.as_raw_fd(), bytes, segment, Some(&SockaddrIn::from(*peer)))
            }
        }
    }
}

fn send<S: SockaddrLike>(
    socket: RawFd,
    bytes: &[u8],
    segment: Option<u16>,
    to: Option<&S>,
) -> io::Result<()> {
    let control = segment.as_ref().map(ControlMessage::UdpGsoSegments);
    sendmsg(socket, &[IoSlice::new(bytes)], control.as_slice(), MsgFlags::empty(), to)?;
    Ok(())
}

/// The answers to one transfer that came to the port that it shares, until it takes them.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    letters: Mutex<Letters>,
    /// Whether the transfer may send no more. Held while it sends: the client may be about to begin anew from the same port,
    /// and nothing of this transfer may leave after that.
    over: Mutex<bool>,
}

#[derive(Debug, Default)]
struct Letters {
    waiting: VecDeque<Vec<u8>>,
    bell: Option<Bell>,
}

impl Mailbox {
    /// Puts in an answer, and says whether there was room.
    pub(super) fn put(&self, answer: &[u8]) -> bool {
        let mut letters = self.letters.lock();
        if letters.waiting.len() >= MAX_LETTERS {
            return false;
        }
        letters.waiting.push_back(answer.get(..MAX_ANSWER).unwrap_or(answer).to_vec());
        // Whoever was told takes all there is.
        if let (1, Some(bell)) = (letters.waiting.len(), &letters.bell) {
            bell.ring();
        }
        true
    }

    /// Takes out what is there.
    pub(super) fn take(&self) -> VecDeque<Vec<u8>> {
        std::mem::take(&mut self.letters.lock().waiting)
    }

    /// From now on this is rung when there is something.
    pub(super) fn attach(&self, bell: Bell) {
        self.letters.lock().bell = Some(bell);
    }

    /// The transfer sends no more.
    pub(super) fn close(&self) {
        *self.over.lock() = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_wait_in_order_cut_and_counted() {
        let mailbox = Mailbox::default();
        assert!(mailbox.put(&[0, 4, 0, 1]) && mailbox.put(&[9; 2000]));
        assert_eq!(mailbox.take(), [vec![0, 4, 0, 1], vec![9; MAX_ANSWER]]);
        for n in 0..MAX_LETTERS {
            assert!(mailbox.put(&[n as u8]), "{n}");
        }
        assert!(!mailbox.put(b"one more"));
        assert_eq!(mailbox.take().len(), MAX_LETTERS);
        assert!(mailbox.put(b"again") && mailbox.take().len() == 1);
    }

    #[test]
    fn nothing_leaves_a_transfer_that_another_has_replaced() {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let std::net::SocketAddr::V4(peer) = client.local_addr().unwrap() else { panic!("not IPv4") };
        let mailbox = Arc::new(Mailbox::default());
        let way = Way::Asked(AskedPort { socket, peer, mailbox: Arc::clone(&mailbox) });
        way.send(b"one", None).unwrap();
        way.send(b"twothr", Some(3)).unwrap();
        mailbox.close();
        way.send(b"four", None).unwrap();
        let mut buffer = [0; 16];
        for expected in [b"one", b"two", b"thr"] {
            let len = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], expected);
        }
        // Loopback is at the other end before the call returns.
        client.set_nonblocking(true).unwrap();
        assert!(client.recv(&mut buffer).is_err());
    }
}
