//! What each fuzz target does with its input, apart from the fuzzer, so that ordinary tests replay the corpora with
//! the same code: they include these folders by path.

#[path = "../../bootd/src/serve/http/head.rs"]
#[allow(dead_code, reason = "the daemon, which is no library, uses the rest")]
mod head;
#[path = "iscsi/mod.rs"]
pub mod initiator;
#[path = "netboot/mod.rs"]
pub mod machine;
#[path = "http/mod.rs"]
pub mod request;
#[path = "menus/mod.rs"]
pub mod template;
