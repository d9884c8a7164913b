//! What fuzzing has found worth keeping, once more: the corpora of `fuzz/` through the same code, without the fuzzer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helper fails by panicking"
)]
#![allow(unreachable_pub, reason = "the fuzz targets use these modules as a library")]

#[path = "../../fuzz/src/replay.rs"]
mod replay;
#[path = "../../fuzz/src/menus/mod.rs"]
mod template;

#[test]
fn menus_tera() {
    replay::replay("menus_tera", template::tera);
}

#[test]
fn menus_labnet() {
    replay::replay("menus_labnet", template::labnet);
}
