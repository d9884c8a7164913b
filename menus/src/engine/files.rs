//! Filters for the names of files that a client fetches.

use tera::{Kwargs, State, TeraResult};

/// `file_url(server)`: where a client finds a file that the site names, which lies among the boot files or, where it is
/// a URL already, elsewhere.
#[expect(clippy::needless_pass_by_value, reason = "Tera's signature for filters")]
pub(super) fn file_url(file: &str, kwargs: Kwargs, _: &State<'_>) -> TeraResult<String> {
    let server = kwargs.must_get::<&str>("server")?;
    Ok(if file.contains("://") { file.to_owned() } else { format!("{server}/files/{file}") })
}

/// `beside(file)`: another file in the same folder.
#[expect(clippy::needless_pass_by_value, reason = "Tera's signature for filters")]
pub(super) fn beside(file: &str, kwargs: Kwargs, _: &State<'_>) -> TeraResult<String> {
    let other = kwargs.must_get::<&str>("file")?;
    Ok(file.rsplit_once('/').map_or_else(|| other.to_owned(), |(folder, _)| format!("{folder}/{other}")))
}
