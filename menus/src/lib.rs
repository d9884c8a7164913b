//! Templates and what they are rendered to.

mod context;
mod engine;
mod error;
mod escape;
mod instances;
mod labnet;
mod menus;
mod site_view;
mod stop;
mod view;

pub use context::{BootFacts, ChoiceFacts, ClientFacts, Context, DiskFacts, MenuFacts, Secret, ServerFacts};
pub use error::{MenuError, Place};
pub use instances::{Machine, Role};
pub use labnet::{MAX_BYTES, MAX_COLUMN, MAX_DEPTH, MAX_NODES, MAX_PATTERN, MAX_PROGRAM, MAX_STEPS};
pub use menus::{
    Found, INSTANCES_SUFFIX, MAX_LOOKED_UP, MAX_OUTPUT, MAX_RANGE, MAX_TEMPLATE, Menus, TEMPLATE_SUFFIX,
};
pub use stop::Stop;
pub use view::{ConfigView, EmptyView, Row, Variable};
