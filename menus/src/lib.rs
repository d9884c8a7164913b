//! Templates and what they are rendered to.

mod context;
mod error;
mod escape;
mod menus;

pub use context::{BootFacts, ClientFacts, Context, DiskFacts, Secret, ServerFacts};
pub use error::{MenuError, Place};
pub use menus::{MAX_OUTPUT, MAX_RANGE, MAX_TEMPLATE, Menus, TEMPLATE_SUFFIX};
