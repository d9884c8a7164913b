//! Targets: who may log in to which disk, and who has.
//!
//! The sessions of a target are in a list that only logins, ends of sessions and resets touch. Each session looks
//! at a flag of its own to learn what others want of it, so reads and writes share no lock.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::limits::SESSIONS_PER_TARGET;
use crate::scsi::{InitiatorPort, Lun, NexusId};

/// A CHAP secret. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// This secret, byte for byte.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub(crate) fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A CHAP name with its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// CHAP_N.
    pub user: String,
    /// What both sides know.
    pub secret: Secret,
}

/// Who may log in to a target, and how it proves that.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    /// The iSCSI name that may log in; `None` lets anyone.
    pub initiator: Option<String>,
    /// What the initiator must know; `None` asks for no proof.
    pub chap: Option<Account>,
    /// What the target proves to an initiator that asks for it. Its secret must differ from that of `chap`.
    pub mutual: Option<Account>,
}

/// iSCSI names are compared in lower case (RFC 7143 4.2.7.2).
pub(crate) fn may_log_in(credentials: &Credentials, initiator: &str) -> bool {
    credentials.initiator.as_ref().is_none_or(|name| name.eq_ignore_ascii_case(initiator))
}

/// The targets there are: a look-up in memory, given by the shell.
pub trait Directory: Send + Sync {
    /// The target of that name, which is given in lower case.
    fn target(&self, iqn: &str) -> Option<Arc<Target>>;

    /// The targets that are this initiator's, by the name that it goes by. Those that ask for proof are shown to it
    /// only when it has given that.
    fn targets_for(&self, initiator: &str) -> Vec<Arc<Target>>;
}

/// Called when a connection has something to do that no input told it of. Must be cheap and must not call back.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// What others can want of a session; bits of [`Remote::orders`].
pub(crate) mod order {
    /// End: the same initiator port logs in again.
    pub(crate) const REINSTATED: u8 = 1;
    /// End: the target is taken away.
    pub(crate) const REMOVED: u8 = 2;
    /// End: target cold reset.
    pub(crate) const COLD_RESET: u8 = 4;
    /// Drop all tasks: the disk was reset, of which every session hears.
    pub(crate) const ABORT_TASKS: u8 = 8;
    /// Drop all tasks, and tell the initiator of it if there were any.
    pub(crate) const CLEAR_TASKS: u8 = 16;
}

/// What sessions were ordered and have yet to do. Each of them drops it when the disk is done with all that it
/// aborted, or when it has ended; with the last one, whoever gave the order is woken.
pub(crate) struct Errand {
    wake: Wake,
}

impl Drop for Errand {
    fn drop(&mut self) {
        (self.wake)();
    }
}

/// The end of an errand that others are on.
pub(crate) struct Awaited(Weak<Errand>);

impl Awaited {
    /// Nobody is waited for.
    pub(crate) const fn nobody() -> Self {
        Self(Weak::new())
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// What others want of a session.
pub(crate) struct Orders {
    /// Bits of [`order`].
    pub(crate) bits: u8,
    /// To be kept until all of it is done.
    pub(crate) errands: Vec<Arc<Errand>>,
}

/// A session as the others see it.
struct Remote {
    nexus: NexusId,
    tsih: u16,
    port: InitiatorPort,
    orders: AtomicU8,
    /// Written before `orders` is, and looked at only by whoever saw one.
    errands: Mutex<Vec<Arc<Errand>>>,
    wake: Wake,
}

impl Remote {
    fn order(&self, orders: u8) {
        self.orders.fetch_or(orders, Ordering::AcqRel);
        (self.wake)();
    }
}

#[derive(Default)]
struct Sessions {
    all: Vec<Arc<Remote>>,
    /// Logins that wait for a session to end.
    waiting: Vec<Wake>,
    next_nexus: u64,
    next_tsih: u16,
    removed: bool,
}

/// A disk that can be logged in to, under its iSCSI name.
pub struct Target {
    name: String,
    credentials: Credentials,
    lun: Arc<Lun>,
    sessions: Mutex<Sessions>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A session, for the status page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// The initiator's name and its session identifier.
    pub port: InitiatorPort,
    /// The handle that the target gave the session.
    pub tsih: u16,
}

impl Target {
    /// A target with one logical unit. The name is kept in lower case.
    #[must_use]
    pub fn new(name: &str, credentials: Credentials, lun: Arc<Lun>) -> Self {
        Self { name: name.to_ascii_lowercase(), credentials, lun, sessions: Mutex::default() }
    }

    /// The iSCSI name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who may log in.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The disk.
    #[must_use]
    pub fn lun(&self) -> &Arc<Lun> {
        &self.lun
    }

    /// The sessions there are.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionInfo> {
        let describe = |it: &Arc<Remote>| SessionInfo { port: it.port.clone(), tsih: it.tsih };
        self.sessions.lock().all.iter().map(describe).collect()
    }

    /// Takes the target away: its sessions end, and logins that are under way are refused.
    pub fn remove(&self) {
        let mut sessions = self.sessions.lock();
        sessions.removed = true;
        sessions.all.iter().for_each(|it| it.order(order::REMOVED));
        sessions.waiting.drain(..).for_each(|wake| wake());
    }

    pub(crate) fn has_session(&self, tsih: u16, initiator: &str, isid: [u8; 6]) -> bool {
        let is_it = |it: &Arc<Remote>| it.tsih == tsih && it.port.iqn == initiator && it.port.isid == isid;
        self.sessions.lock().all.iter().any(is_it)
    }

    /// Begins a session. A session of the same initiator port is told to end first (RFC 7143 6.3.5), and `wake` is
    /// called when it has: what it still writes must not come after what the new one writes.
    pub(crate) fn enter(self: &Arc<Self>, port: &InitiatorPort, wake: &Wake) -> Entry {
        let mut sessions = self.sessions.lock();
        if sessions.removed {
            return Entry::Removed;
        }
        let mut old = sessions.all.iter().filter(|it| it.port == *port).peekable();
        if old.peek().is_some() {
            old.for_each(|it| it.order(order::REINSTATED));
            sessions.waiting.push(Arc::clone(wake));
            return Entry::Wait;
        }
        if sessions.all.len() >= SESSIONS_PER_TARGET {
            return Entry::Full;
        }
        sessions.next_nexus += 1;
        let nexus = NexusId::new(sessions.next_nexus);
        let tsih = sessions.free_tsih();
        let remote = Arc::new(Remote {
            nexus,
            tsih,
            port: port.clone(),
            orders: AtomicU8::new(0),
            errands: Mutex::default(),
            wake: Arc::clone(wake),
        });
        sessions.all.push(Arc::clone(&remote));
        self.lun.join(nexus, port.clone());
        Entry::In(Membership { target: Arc::clone(self), remote })
    }
}

impl Sessions {
    /// A handle that no session has. Zero means "none" in a login.
    fn free_tsih(&mut self) -> u16 {
        loop {
            self.next_tsih = self.next_tsih.checked_add(1).unwrap_or(1);
            if self.all.iter().all(|it| it.tsih != self.next_tsih) {
                return self.next_tsih;
            }
        }
    }
}

/// What came of a login.
pub(crate) enum Entry {
    In(Membership),
    /// The session's predecessor has yet to end.
    Wait,
    /// There are too many sessions.
    Full,
    /// The target was taken away meanwhile.
    Removed,
}

/// A session's place in its target; dropped, the session has ended.
pub(crate) struct Membership {
    target: Arc<Target>,
    remote: Arc<Remote>,
}

impl Membership {
    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    pub(crate) fn lun(&self) -> &Lun {
        &self.target.lun
    }

    pub(crate) fn nexus(&self) -> NexusId {
        self.remote.nexus
    }

    pub(crate) fn tsih(&self) -> u16 {
        self.remote.tsih
    }

    /// What others want of this session, told once.
    pub(crate) fn take_orders(&self) -> Option<Orders> {
        if self.remote.orders.load(Ordering::Acquire) == 0 {
            return None;
        }
        let bits = self.remote.orders.swap(0, Ordering::AcqRel);
        Some(Orders { bits, errands: std::mem::take(&mut *self.remote.errands.lock()) })
    }

    /// Wants something of all other sessions of this target.
    pub(crate) fn order_others(&self, orders: u8) -> Awaited {
        let sessions = self.target.sessions.lock();
        let mut others = sessions.all.iter().filter(|it| !Arc::ptr_eq(it, &self.remote)).peekable();
        if others.peek().is_none() {
            return Awaited::nobody();
        }
        let errand = Arc::new(Errand { wake: Arc::clone(&self.remote.wake) });
        for other in others {
            other.errands.lock().push(Arc::clone(&errand));
            other.order(orders);
        }
        Awaited(Arc::downgrade(&errand))
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut sessions = self.target.sessions.lock();
        sessions.all.retain(|it| !Arc::ptr_eq(it, &self.remote));
        self.target.lun.leave(self.remote.nexus);
        sessions.waiting.drain(..).for_each(|wake| wake());
    }
}
