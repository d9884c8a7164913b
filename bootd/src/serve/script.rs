//! Having a boot script made, for TFTP and HTTP alike.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use site::MacAddr;
use site::entity::EntityName;
use tokio::sync::Semaphore;

use crate::boot::{self, ScriptError};
use crate::state::State;

/// How many scripts, and with them disks, may be in the making. Further clients are told to ask again: a whole room
/// that is switched on at once is then served in the order in which it can be, instead of all of it too late.
const MAX_IN_THE_MAKING: usize = 64;

/// When to ask again. iPXE does as it is told (`Retry-After`).
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(2);

static PLACES: Semaphore = Semaphore::const_new(MAX_IN_THE_MAKING);

/// Which script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Which {
    /// The one that a boot begins with.
    Boot,
    /// The menu.
    Menu,
    /// The one of a choice.
    Choice(EntityName),
    /// The one that boot programs look for by themselves; it leads to the other.
    Autoexec,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoScript {
    /// Too many are in the making.
    #[error("many machines are booting, ask again in {} s", RETRY_AFTER.as_secs())]
    Busy,
    /// It can't be made.
    #[error(transparent)]
    Failed(#[from] ScriptError),
    /// A bug.
    #[error("internal error: {0}")]
    Internal(String),
}

/// The script of the machine `mac`, which asked from `peer` by that link and was admitted. It is made to its end even
/// if the caller does not wait for it: a client that goes away must not leave a disk behind that is half made.
///
/// # Errors
/// When there can't be one. It has been logged and counted, unless it is [`NoScript::Busy`].
pub(super) async fn make(
    state: &Arc<State>,
    link: usize,
    peer: Ipv4Addr,
    mac: MacAddr,
    which: Which,
) -> Result<String, NoScript> {
    let place = PLACES.try_acquire().map_err(|_| NoScript::Busy)?;
    let state = Arc::clone(state);
    let made = tokio::spawn(async move {
        let _place = place;
        let link = state.links.get(link).ok_or_else(|| ScriptError::Internal("no such link".into()))?;
        match which {
            Which::Boot => boot::script(&state, link, mac, peer).await,
            Which::Menu => boot::menu(&state, link, mac, peer).await,
            Which::Choice(name) => boot::choice(&state, link, mac, peer, &name).await,
            Which::Autoexec => boot::autoexec(&state, link, mac, peer).await,
        }
    });
    Ok(made.await.map_err(|e| NoScript::Internal(e.to_string()))??)
}
