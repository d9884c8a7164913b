//! What fuzzing has found worth keeping, once more: the corpora of `fuzz/` through the same code, without the fuzzer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helper fails by panicking"
)]
#![allow(unreachable_pub, reason = "the fuzz targets use these modules as a library")]

#[path = "../../fuzz/src/netboot/mod.rs"]
mod machine;
#[path = "../../fuzz/src/replay.rs"]
mod replay;

use machine::{dhcp, others, paths, proxy, tftp};
use replay::replay;

#[test]
fn dhcp_datagrams() {
    replay("dhcp_packet", dhcp::run);
}

#[test]
fn dhcp_datagrams_to_a_proxy() {
    replay("dhcp_proxy", proxy::run);
}

#[test]
fn answers_of_other_servers() {
    replay("dhcp_others", others::run);
}

#[test]
fn names_of_files() {
    replay("http_path", paths::run);
}

#[test]
fn tftp_transfers() {
    replay("tftp", tftp::run);
}
