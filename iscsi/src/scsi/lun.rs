//! The logical unit: what all sessions of one target share.

use std::sync::atomic::{AtomicBool, Ordering};

use block::Geometry;
use parking_lot::Mutex;

use super::command::{InitiatorPort, NexusId};
use super::mode::ModePages;
use super::nexus::Nexuses;
use super::persistent::Persistent;
use super::sense::{Condition, SenseFormat};
use super::table::Access;
use super::task::Failure;

/// Who the disk says it is. Stable for a client over reboots, or its operating system sees a new disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// T10 VENDOR IDENTIFICATION: at most 8 ASCII characters, the rest is cut.
    pub vendor: String,
    /// PRODUCT IDENTIFICATION: at most 16 ASCII characters.
    pub product: String,
    /// PRODUCT REVISION LEVEL: at most 4 ASCII characters.
    pub revision: String,
    /// PRODUCT SERIAL NUMBER: ASCII, unique among all disks, at most 244 characters.
    pub serial: String,
    /// The logical unit's NAA designator: NAA IEEE Registered Extended (SPC-4, NAA designator format), first
    /// four bits 6.
    pub naa: [u8; 16],
    /// The target's iSCSI name.
    pub target_name: String,
}

/// What kind of disk it is; by default a writable one of 512-byte blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LunOptions {
    /// Whether every write is refused.
    pub read_only: bool,
    /// Logical blocks per physical block, as a power of two: 3 is a disk of 4 KiB blocks that emulates 512 bytes.
    /// At most 15. Operating systems from before 2011 know none but 0. Whatever it is, clients are advised to align
    /// to 4 KiB.
    pub physical_block_exponent: u8,
}

/// A disk that initiators can log in to: logical unit number 0 of its target.
///
/// Sessions [`join`](Lun::join) it when their login is complete and [`leave`](Lun::leave) it when they end.
/// Reads and writes take no lock as long as no reservation is held and no unit attention waits.
#[derive(Debug)]
pub struct Lun {
    identity: Identity,
    geometry: Geometry,
    options: LunOptions,
    mode: ModePages,
    /// Whether anything in `state` could keep a command back. Written with `state` locked.
    guarded: AtomicBool,
    state: Mutex<State>,
}

/// What changes by what initiators do.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) nexuses: Nexuses,
    /// The session that holds a RESERVE (6).
    pub(super) reserved_by: Option<NexusId>,
    pub(super) persistent: Persistent,
}

impl State {
    fn is_guarded(&self) -> bool {
        self.nexuses.any_attention() || self.reserved_by.is_some() || self.persistent.is_reserved()
    }

    /// SAM-5, status precedence: a unit attention comes before a reservation, and both before what is wrong
    /// with the command.
    fn admit(&mut self, nexus: NexusId, access: Option<Access>) -> Result<(), Failure> {
        if let Some(attention) = self.nexuses.take_attention(nexus) {
            return Err(attention.into());
        }
        let Some(access) = access.filter(|access| *access != Access::Free) else {
            return Ok(());
        };
        let reserved = self.reserved_by.is_some_and(|holder| holder != nexus);
        if reserved || self.persistent.keeps_out(self.nexuses.port(nexus), access) {
            return Err(Failure::Conflict);
        }
        Ok(())
    }
}

impl Lun {
    /// A disk of that size. It begins as after power on: every session hears of that first.
    #[must_use]
    pub fn new(identity: Identity, geometry: Geometry, options: LunOptions) -> Self {
        Self {
            identity,
            geometry,
            options,
            mode: ModePages::default(),
            guarded: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// A session begins. Its first command is told of the power on (SAM-5, power on).
    pub fn join(&self, nexus: NexusId, port: InitiatorPort) {
        self.change(|state| state.nexuses.join(nexus, port));
    }

    /// A session has ended, by logout or otherwise: an I_T nexus loss (SAM-5, I_T nexus loss).
    pub fn leave(&self, nexus: NexusId) {
        self.change(|state| {
            state.nexuses.leave(nexus);
            state.reserved_by.take_if(|holder| *holder == nexus);
        });
    }

    /// LOGICAL UNIT RESET (SAM-5, logical unit reset). Every session is told, the one that asked for it too.
    /// Commands in progress are the transport's to abort, by dropping their tasks.
    pub fn reset(&self) {
        self.mode.reset();
        self.change(|state| {
            state.reserved_by = None;
            state.nexuses.tell_all(Condition::BUS_DEVICE_RESET);
        });
    }

    /// Commands of that session were aborted because another asked for CLEAR TASK SET: it is told of that (SAM-5,
    /// CLEAR TASK SET, with the TAS bit 0).
    pub fn commands_cleared(&self, nexus: NexusId) {
        self.change(|state| state.nexuses.tell(nexus, Condition::COMMANDS_CLEARED_BY_ANOTHER_INITIATOR));
    }

    /// Who the disk says it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How large the disk is.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// What kind of disk it is.
    #[must_use]
    pub fn options(&self) -> LunOptions {
        self.options
    }

    pub(super) fn mode(&self) -> &ModePages {
        &self.mode
    }

    pub(super) fn sense_format(&self) -> SenseFormat {
        if self.mode.settings().descriptor_sense { SenseFormat::Descriptor } else { SenseFormat::Fixed }
    }

    /// Whether writes are refused: by the disk's nature, or by the SWP bit.
    pub(super) fn is_write_protected(&self) -> bool {
        self.options.read_only || self.mode.settings().write_protect
    }

    /// Locks the state and changes it. The one place where it is written, so that `guarded` is always right.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        self.guarded.store(state.is_guarded(), Ordering::Release);
        result
    }

    /// Looks at the state.
    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock())
    }

    /// Whether `nexus` may do a command now. `None` is the access of a command that the table doesn't know.
    pub(super) fn admit(&self, nexus: NexusId, access: Option<Access>) -> Result<(), Failure> {
        if !self.guarded.load(Ordering::Acquire) || access == Some(Access::Always) {
            return Ok(());
        }
        self.change(|state| state.admit(nexus, access))
    }
}
