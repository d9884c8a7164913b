//! The site database and the immutable snapshot that bootd serves from.

mod checks;
pub mod entity;
pub mod exchange;
mod model;
mod names;
mod store;

pub use model::{Client, Image, Site};
pub use names::{ClientName, ImageName, MacAddr, NameError, Version};
pub use store::{BUSY_TIMEOUT, ClientChange, Edited, Store, StoreError, StoreErrorKind};
