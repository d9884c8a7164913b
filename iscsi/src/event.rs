//! What a connection tells whoever keeps the log and the timeline of boots.

use std::fmt;

/// A fact about one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A session has begun.
    LoggedIn {
        /// The initiator's name.
        initiator: String,
        /// The target's name; `None` in a discovery session.
        target: Option<String>,
        /// The session identifier that the initiator chose. Firmware and operating system have different ones.
        isid: [u8; 6],
        /// Whether the initiator had to prove who it is.
        authenticated: bool,
    },
    /// A login was refused.
    LoginRefused {
        /// The initiator's name, where it got as far as saying it.
        initiator: Option<String>,
        /// The target's name, likewise.
        target: Option<String>,
        /// What the initiator was told.
        status: LoginStatus,
        /// Why, for people.
        why: &'static str,
    },
    /// The session has written to its disk for the first time.
    FirstWrite,
    /// The initiator has ended its session.
    LoggedOut,
    /// The target ends the connection.
    Ended {
        /// Why, for people.
        why: EndReason,
    },
}

/// Why the target ends a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// The same initiator port has logged in again (RFC 7143 6.3.5).
    Reinstated,
    /// The target was taken away.
    TargetRemoved,
    /// An initiator asked for a target cold reset.
    ColdReset,
    /// It did not log in within the time allowed.
    LoginTimeout,
    /// It did not answer a ping.
    PingTimeout,
    /// It broke the protocol beyond what can be mended at error recovery level 0.
    ProtocolError(String),
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reinstated => f.write_str("the same initiator logged in again"),
            Self::TargetRemoved => f.write_str("the target was removed"),
            Self::ColdReset => f.write_str("target cold reset"),
            Self::LoginTimeout => f.write_str("no login within the time allowed"),
            Self::PingTimeout => f.write_str("a ping was not answered"),
            Self::ProtocolError(what) => write!(f, "protocol error: {what}"),
        }
    }
}

/// Status class and detail of a login response (RFC 7143 11.13.5) that refuses the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum LoginStatus {
    /// What the initiator sent makes no sense.
    InitiatorError = 0x0200,
    /// The initiator could not prove who it is.
    AuthenticationFailure = 0x0201,
    /// The initiator may not use this target.
    AuthorisationFailure = 0x0202,
    /// There is no such target.
    NotFound = 0x0203,
    /// The target was there, and is no longer.
    TargetRemoved = 0x0204,
    /// A protocol version that we don't speak.
    UnsupportedVersion = 0x0205,
    /// The session has all its connections.
    TooManyConnections = 0x0206,
    /// A key is missing.
    MissingParameter = 0x0207,
    /// A session type that there is not.
    SessionTypeNotSupported = 0x0209,
    /// There is no such session to add a connection to.
    SessionDoesNotExist = 0x020a,
    /// A request that is not for the login phase.
    InvalidDuringLogin = 0x020b,
    /// The target can't take more sessions at present.
    OutOfResources = 0x0302,
}

impl LoginStatus {
    /// Class and detail.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }
}
