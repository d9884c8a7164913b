//! Serving disks over iSCSI to whoever may log in: sockets and disks around the pure [`iscsi`] target.
//!
//! Each connection is one task, which owns its socket and its protocol state. It reads what is there, does on the
//! disk at once what can be done without waiting, and writes all that is ready in one call. What must wait for
//! storage runs on other threads, within limits. Clients share nothing on this path but those limits.

mod connection;
mod disk;
mod jobs;
mod listen;
mod places;
mod report;
mod room;
mod table;
#[cfg(test)]
mod tests;

pub use jobs::{JOBS, JOBS_PER_CONNECTION};
pub use listen::Portal;
pub use places::{BYTES_IN_FLIGHT_IN_ALL, HALF_OPEN_PER_ADDRESS, LEAST_SHARE, MAX_CONNECTIONS};
pub use report::{Fact, Report};
pub use table::{Export, Table};
