//! Sessions on an overlay, by seed: connections lost amid commands, new logins, a disk that is slow, full or unreadable,
//! and a daemon that is killed. After each run the disk holds what was acknowledged.
//!
//! A run that failed is run again by its seed, which its output names. `BOOTD_SEEDS=20000` does more of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helper fails by panicking"
)]

mod link;
#[path = "../../../block/tests/faults/model.rs"]
mod model;
mod run;
#[path = "../../../fuzz/src/iscsi/wire.rs"]
#[allow(dead_code, reason = "shared with the fuzz targets")]
mod wire;

use run::Run;

#[test]
fn what_was_acknowledged_outlives_connections_and_daemons() {
    for seed in model::seeds(300) {
        // Shown only if the run fails.
        println!("seed {seed}");
        let place = model::place();
        Run::new(seed, place.path()).play();
    }
}
