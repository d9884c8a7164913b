//! What fuzzing has found worth keeping, once more: the corpora of `fuzz/` through the same code, without the fuzzer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helper fails by panicking"
)]
#![allow(unreachable_pub, reason = "the fuzz targets use these modules as a library")]

#[path = "../../fuzz/src/iscsi/mod.rs"]
mod initiator;
#[path = "../../fuzz/src/replay.rs"]
mod replay;

use initiator::{cdb, login, pdu, session};
use replay::replay;

#[test]
fn streams_of_pdus() {
    replay("iscsi_pdu", pdu::run);
}

#[test]
fn texts_of_logins() {
    replay("iscsi_login_text", login::run);
}

#[test]
fn commands() {
    replay("iscsi_cdb", cdb::run);
}

#[test]
fn sessions() {
    replay("iscsi_session", session::run);
}
