//! The site database and the immutable snapshot that bootd serves from.

mod checks;
pub mod entity;
pub mod exchange;
mod lookup;
mod model;
mod names;
mod snapshot;
mod store;

pub use model::{Choice, ChoiceKind, Client, Image, Menu};
pub use names::{ClientName, ImageName, MacAddr, NameError, Version};
pub use snapshot::Site;
pub use store::{
    Author, BUSY_TIMEOUT, ClientChange, Edited, Location, MAX_EFFECTS, MAX_LOG, MAX_WHO, MAX_WHY, Store,
    StoreError, StoreErrorKind, StoreState,
};
