//! What an error of the server, or of the way to it, means.

use std::error::Error as _;

use tokio_postgres::Error;

use super::super::error::StoreError;

pub(super) fn of(place: &str, error: &Error) -> StoreError {
    let place = place.to_owned();
    let Some(said) = error.as_db_error() else {
        let reason = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        return StoreError::Unreachable { place, reason };
    };
    let mut reason = said.message().to_owned();
    if let Some(hint) = said.hint() {
        reason.push_str(&format!(" ({hint})"));
    }
    match said.code().code() {
        // Another editor holds the lock.
        "55P03" => StoreError::Busy { place },
        // It takes no edits: a standby, or told so.
        "25006" => StoreError::Standby { place },
        code => match code.get(..2) {
            // No connection, no resources, stopping or not yet started or too slow, failing disk.
            Some("08" | "28" | "3D" | "53" | "57" | "58" | "XX") => StoreError::Unreachable { place, reason },
            _ => StoreError::Server { place, reason },
        },
    }
}
