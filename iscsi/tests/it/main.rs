//! A scripted initiator against the target, on a virtual clock. The initiator's PDUs are written apart from the
//! target's, so that one can't hide the other's mistake.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

mod chap;
mod commands;
mod data_out;
mod discovery;
mod login;
mod pair;
mod peers;
mod robust;
mod session;
mod sessions;
mod task_management;
mod wire;
