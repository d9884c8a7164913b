//! What each fuzz target does with its input, apart from the fuzzer, so that ordinary tests replay the corpora with
//! the same code: they include these folders by path.

#[path = "iscsi/mod.rs"]
pub mod initiator;
#[path = "netboot/mod.rs"]
pub mod machine;
#[path = "menus/mod.rs"]
pub mod template;
