//! What a portal tells whoever keeps log, counters and timelines.

use std::io;
use std::net::SocketAddr;

use block::BlockError;
use iscsi::Event;

/// A fact about one connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fact<'a> {
    /// It was accepted.
    Connected,
    /// It was closed at once: there are too many.
    Refused {
        /// Too many of what.
        why: &'static str,
    },
    /// The protocol has something to tell.
    Session {
        /// The target, once logged in.
        target: Option<&'a str>,
        /// What.
        event: Event,
    },
    /// The disk failed, and the initiator was told.
    DiskFailed {
        /// The target.
        target: &'a str,
        /// How it failed.
        error: &'a BlockError,
    },
    /// It is closed.
    Closed {
        /// The target, if it was logged in.
        target: Option<&'a str>,
    },
}

/// Who is told. Called from the tasks and threads that serve: it must be quick and must not block.
pub trait Report: Send + Sync {
    /// Takes a fact about the connection of `peer`.
    fn tell(&self, peer: SocketAddr, fact: Fact<'_>);

    /// The system could not give a connection, or what one needs.
    fn trouble(&self, error: &io::Error);
}
