//! The site as text: what an admin keeps in files, spreadsheets and an older system, and what bootd writes out again.
//!
//! Whatever is read becomes a [`Desired`] state in which everything knows its file, line and column, and that becomes
//! edits against the model that is there. A declarative file has two parts, the same in TOML, YAML and JSON:
//!
//! ```toml
//! [definitions.client.variables.asset_tag]   # types and variables beside bootd's own
//! about = "The number on its sticker."
//!
//! [entities.client.rook]                     # entities by type and name
//! mac = "52:54:00:77:00:01"
//! groups = ["en1018", "physics"]             # a list, in its order
//!
//! [[entities.client.rook.config_files]]      # a table, row by row
//! file_id = "access.conf"
//! file_group = "mscluster"
//! ```
//!
//! What a file does not mention stays as it is, unless it is applied with prune.

mod csv;
mod desired;
mod edits;
mod error;
mod export;
mod labnet;
mod read;
mod tree;

pub use csv::{CsvOptions, csv};
pub use desired::Desired;
pub use error::{ExchangeError, Place};
pub use export::{Export, export};
pub use labnet::{LabnetFile, LabnetOptions, labnet};
pub use read::read;
pub use tree::{MAX_FILE, MAX_NODES, TextFormat};

#[cfg(test)]
mod tests;
