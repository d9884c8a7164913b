//! Gives up what the daemon needs only to start.

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};

/// What is kept, if it was there: images may belong to anyone (`image add --in-place`), so a daemon that began as
/// root goes on reading any file. It writes only what belongs to its own user.
const KEPT: [Capability; 1] = [Capability::CAP_DAC_READ_SEARCH];

/// Why privileges can't be dropped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrivilegeError {
    /// A capability can't be dropped.
    #[error(transparent)]
    Capabilities(#[from] CapsError),
    /// New privileges can't be ruled out.
    #[error("no_new_privs: {0}")]
    NoNewPrivileges(#[from] nix::Error),
}

/// Drops all capabilities but [`KEPT`] and `more`, for good: no program that is started ever gets more. Every socket is open by
/// now, so nothing that follows needs another. Raises the number of files that may be open to what the system allows
/// before that.
///
/// Must run while the process has one thread: capabilities belong to threads.
///
/// # Errors
/// When the system refuses.
pub(crate) fn drop_all(more: &[Capability]) -> Result<(), PrivilegeError> {
    raise_file_limit();
    nix::sys::prctl::set_no_new_privs()?;
    let held = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet = KEPT.iter().chain(more).copied().filter(|one| held.contains(one)).collect();
    caps::clear(None, CapSet::Ambient)?;
    if held.contains(&Capability::CAP_SETPCAP) {
        for other in caps::all().difference(&kept) {
            // One that this kernel does not know is not there to be dropped.
            let _ = caps::drop(None, CapSet::Bounding, *other);
        }
    }
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    Ok(())
}

/// Each client needs a handful of open files. Where the limit can't be raised, connections beyond it are refused.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
