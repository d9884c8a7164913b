//! The site database and the immutable snapshot that bootd serves from.

mod model;
mod names;

pub use model::{Client, Image, Site};
pub use names::{ClientName, ImageName, MacAddr, NameError, Version};
