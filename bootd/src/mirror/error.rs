//! Why a file of a mirror can't be had.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::sums::{Sum, show_sum};

/// Why. Cheap to clone: all who wait for a file are told the same.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum MirrorError {
    /// The site has no such mirror.
    #[error("there is no mirror {0}; add one with: bootd site create mirror/{0} url=http://...")]
    Unknown(String),
    /// What the site says of the mirror makes no sense.
    #[error("mirror {mirror}: {what}; see: bootd site show mirror/{mirror}")]
    Site {
        /// Which.
        mirror: String,
        /// What is wrong.
        what: String,
    },
    /// The upstream has no such file.
    #[error("{url}: the upstream has no such file ({status})")]
    NotThere {
        /// Where it was looked for.
        url: String,
        /// 404 or 410.
        status: u16,
    },
    /// The upstream answers something else.
    #[error("{url}: the upstream answers {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The answer.
        status: u16,
    },
    /// It sends us where it may not.
    #[error(
        "{url}: the upstream sends us on to {location}, which its mirror does not allow; allow the host with: bootd \
         site set mirror/{mirror} redirects=HOST"
    )]
    Redirected {
        /// The mirror.
        mirror: String,
        /// What was asked for.
        url: String,
        /// Where to.
        location: String,
    },
    /// The upstream can't be reached, or breaks off.
    #[error("{url}: {what}")]
    Upstream {
        /// What was asked for.
        url: String,
        /// What happened.
        what: String,
    },
    /// The upstream says nothing for too long.
    #[error("{url}: the upstream said nothing for {} s", .after.as_secs())]
    Silent {
        /// What was asked for.
        url: String,
        /// How long.
        after: Duration,
    },
    /// What came is not what the sums say.
    #[error("{url}: what came has the SHA-256 sum {}, and it should have {}", show_sum(.got), show_sum(.wanted))]
    Sum {
        /// What was asked for.
        url: String,
        /// What it should be.
        wanted: Sum,
        /// What it is.
        got: Sum,
    },
    /// There is no sum for it, and the mirror serves nothing without.
    #[error("{mirror}: there is no SHA-256 sum for {path}, and the mirror is strict")]
    NoSum {
        /// Which.
        mirror: String,
        /// The file.
        path: String,
    },
    /// It is larger than all mirrors together may be.
    #[error(
        "{url}: the file is larger than all that mirrors may keep, {limit} bytes; raise limit in [mirror] of bootd.toml"
    )]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// It was not there in time for who can't be sent it piece by piece.
    #[error("{path} of mirror {mirror} is on its way; ask again when it is there")]
    OnItsWay {
        /// Which.
        mirror: String,
        /// The file.
        path: String,
    },
    /// Too many files are being fetched.
    #[error("too many files are being fetched, ask again later")]
    Busy,
    /// Our own disk.
    #[error("{}: {source}; check that its disk is neither full nor read-only", path.display())]
    Disk {
        /// Which file or folder.
        path: PathBuf,
        /// The system's reason.
        source: Arc<io::Error>,
    },
    /// A bug.
    #[error("internal error: {0}")]
    Internal(String),
}

impl MirrorError {
    pub(super) fn disk(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Disk { path: path.into(), source: Arc::new(source) }
    }

    /// The HTTP status that says so.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Unknown(_) | Self::NotThere { .. } => 404,
            Self::NoSum { .. } => 403,
            Self::Busy | Self::OnItsWay { .. } => 503,
            Self::Silent { .. } => 504,
            Self::Status { .. }
            | Self::Redirected { .. }
            | Self::Upstream { .. }
            | Self::Sum { .. }
            | Self::TooLarge { .. } => 502,
            Self::Site { .. } | Self::Disk { .. } | Self::Internal(_) => 500,
        }
    }

    /// Whether what is stored may be served in its place: the upstream is at fault, not what was asked for.
    pub(super) fn is_upstreams(&self) -> bool {
        match self {
            Self::Upstream { .. } | Self::Silent { .. } | Self::Redirected { .. } | Self::Busy => true,
            Self::Status { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }
}
