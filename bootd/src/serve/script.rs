//! Having a boot script made, for TFTP and HTTP alike.
//!
//! A script is sent when its disk is there, and that may take longer than a client should be left without a word: the
//! kernel makes disks one at a time, and a storage that is busy takes its time. Over HTTP such a client is told to ask
//! again (503 and `Retry-After`, at which iPXE waits and asks by itself: `net/tcp/httpcore.c`). What is being made for it
//! goes on, and is what it gets then: to make it anew would end the disk that is just about to be there.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netboot::StepKind;
use parking_lot::Mutex;
use site::MacAddr;
use site::entity::EntityName;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::boot::{self, ScriptError};
use crate::state::State;

/// How many scripts, and with them disks, may be in the making. Further clients are told to ask again: a whole room
/// that is switched on at once is then served in the order in which it can be, instead of all of it too late.
const MAX_IN_THE_MAKING: usize = 64;

/// When to ask again. iPXE does as it is told (`Retry-After`).
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(2);

/// How long a request is held open while its script is made. iPXE gives up after two minutes without a byte, and people
/// earlier.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long a script is kept for a client that was told to ask again. One that comes later has booted anew.
const KEPT: Duration = Duration::from_secs(30);

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
    /// It is in the making, and kept for whoever asks again.
    #[error("the disk is not there yet, ask again in {} s", RETRY_AFTER.as_secs())]
    Slow,
    /// It can't be made.
    #[error(transparent)]
    Failed(#[from] ScriptError),
    /// A bug.
    #[error("internal error: {0}")]
    Internal(String),
}

/// Scripts whose clients were told to ask again, one for each machine at most.
#[derive(Debug)]
pub(crate) struct Unfetched {
    scripts: Mutex<HashMap<MacAddr, Pending>>,
    patience: Duration,
}

impl Default for Unfetched {
    fn default() -> Self {
        Self { scripts: Mutex::default(), patience: PATIENCE }
    }
}

/// A script that is being made, or has been.
#[derive(Debug)]
struct Pending {
    which: Which,
    peer: Ipv4Addr,
    /// When its client was told to ask again.
    told: Instant,
    made: JoinHandle<Result<String, ScriptError>>,
}

impl Unfetched {
    /// What is kept for that request.
    fn take(
        &self,
        mac: MacAddr,
        peer: Ipv4Addr,
        which: &Which,
    ) -> Option<JoinHandle<Result<String, ScriptError>>> {
        let mut scripts = self.scripts.lock();
        scripts.retain(|_, pending| pending.told.elapsed() < KEPT || !pending.made.is_finished());
        let pending = scripts.remove(&mac)?;
        (pending.which == *which && pending.peer == peer).then_some(pending.made)
    }

    fn keep(&self, mac: MacAddr, pending: Pending) {
        self.scripts.lock().insert(mac, pending);
    }
}

/// The script of the machine `mac`, which asked from `peer` by that link and was admitted. It is made to its end even
/// if the caller does not wait for it: a client that goes away must not leave a disk behind that is half made.
///
/// # Errors
/// When there can't be one, or not yet. It has been logged and counted, unless it is [`NoScript::Busy`] or
/// [`NoScript::Slow`].
pub(super) async fn make_soon(
    state: &Arc<State>,
    link: usize,
    peer: Ipv4Addr,
    mac: MacAddr,
    which: Which,
) -> Result<String, NoScript> {
    let (mut made, asked_before) = start(state, link, peer, mac, &which)?;
    match tokio::time::timeout(state.unfetched.patience, &mut made).await {
        Ok(made) => {
            let text = made.map_err(|e| NoScript::Internal(e.to_string()))??;
            if asked_before {
                state.step(mac, StepKind::Script, "its disk is there now");
            }
            Ok(text)
        }
        Err(_) => {
            let again = format!("told to ask again in {} s", RETRY_AFTER.as_secs());
            state.step(mac, StepKind::Waits, &again);
            state.unfetched.keep(mac, Pending { which, peer, told: Instant::now(), made });
            Err(NoScript::Slow)
        }
    }
}

/// The same, however long it takes: for those who can't be told to ask again.
///
/// # Errors
/// As [`make_soon`], but for [`NoScript::Slow`].
pub(super) async fn make(
    state: &Arc<State>,
    link: usize,
    peer: Ipv4Addr,
    mac: MacAddr,
    which: Which,
) -> Result<String, NoScript> {
    let (made, _) = start(state, link, peer, mac, &which)?;
    Ok(made.await.map_err(|e| NoScript::Internal(e.to_string()))??)
}

/// Has it made, unless that has begun, and says whether it had.
fn start(
    state: &Arc<State>,
    link: usize,
    peer: Ipv4Addr,
    mac: MacAddr,
    which: &Which,
) -> Result<(JoinHandle<Result<String, ScriptError>>, bool), NoScript> {
    if let Some(made) = state.unfetched.take(mac, peer, which) {
        return Ok((made, true));
    }
    let place = PLACES.try_acquire().map_err(|_| NoScript::Busy)?;
    let (state, which) = (Arc::clone(state), which.clone());
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
    Ok((made, false))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use lvm::{Attached, CacheStatus, Detached, Disk, DiskRequest, DiskStatus, Engine, EngineError, Sim};

    use super::*;
    use crate::testing;

    /// An engine that makes no disk as long as its gate is closed.
    #[derive(Default)]
    struct Slow {
        sim: Sim,
        closed: AtomicBool,
    }

    impl Engine for Slow {
        fn name(&self) -> &'static str {
            "slow"
        }

        fn attach(&self, request: DiskRequest) -> Result<Attached, EngineError> {
            while self.closed.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            self.sim.attach(request)
        }

        fn detach(&self, client: &str, epoch: u64) -> Result<Detached, EngineError> {
            self.sim.detach(client, epoch)
        }

        fn list(&self) -> Vec<Disk> {
            self.sim.list()
        }

        fn status(&self) -> Vec<DiskStatus> {
            self.sim.status()
        }

        fn cache(&self) -> Vec<CacheStatus> {
            self.sim.cache()
        }

        fn reap(&self) -> Result<Vec<Disk>, EngineError> {
            self.sim.reap()
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_whose_disk_takes_long_asks_again_and_gets_that_disk() {
        let directory = tempfile::tempdir().unwrap();
        let engine = Arc::new(Slow::default());
        let (state, _store, _told) =
            testing::state_with(directory.path(), Arc::clone(&engine) as Arc<dyn Engine>);
        let mut state = Arc::into_inner(state).unwrap();
        state.unfetched.patience = Duration::from_millis(20);
        let state = Arc::new(state);
        state.site.store(Arc::new(testing::site(directory.path())));
        let peer = Ipv4Addr::new(10, 0, 0, 7);
        let ask = || make_soon(&state, 0, peer, testing::MAC, Which::Boot);

        engine.closed.store(true, Ordering::Relaxed);
        let steps = || {
            let boots = state.boots.lock();
            boots.current(testing::MAC).map(|boot| boot.steps.clone()).unwrap_or_default()
        };
        // The first may have been too early for its boot.
        for asked in 1.. {
            assert!(matches!(ask().await, Err(NoScript::Slow)));
            if asked >= 3 && steps().iter().any(|step| step.kind == StepKind::Waits) {
                break;
            }
        }
        assert!(state.engine.list().is_empty());
        engine.closed.store(false, Ordering::Relaxed);
        let script = loop {
            match ask().await {
                Ok(script) => break script,
                Err(NoScript::Slow) => {}
                Err(e) => panic!("{e}"),
            }
        };
        let disks = state.engine.list();
        let [disk] = disks.as_slice() else { panic!("{} disks", disks.len()) };
        assert!(script.contains(&format!("{:x}", disk.request.epoch)), "{script}");
        assert!(state.unfetched.scripts.lock().is_empty());
        // Its timeline tells of the wait, and of its end.
        let steps = steps();
        let kinds: Vec<_> = steps.iter().map(|step| &step.kind).collect();
        let [StepKind::Script, waits @ .., StepKind::Script] = kinds.as_slice() else { panic!("{kinds:?}") };
        assert!(!waits.is_empty() && waits.iter().all(|kind| **kind == StepKind::Waits), "{kinds:?}");

        // Another's address gets nothing that was made for this one.
        engine.closed.store(true, Ordering::Relaxed);
        assert!(matches!(ask().await, Err(NoScript::Slow)));
        assert!(state.unfetched.take(testing::MAC, [10, 0, 0, 8].into(), &Which::Boot).is_none());
        engine.closed.store(false, Ordering::Relaxed);
    }
}
