//! Device-mapper by its ioctls: devices of ours are made, changed, looked at and removed. Nothing here starts a
//! process, which is most of what `dmsetup` and `lvcreate` cost.
//!
//! A device is ours when its name begins with our tag and its identifier is the one that belongs to that name; nothing
//! else is ever touched.

use std::fmt;
use std::io;

use devicemapper::errors::Error as CoreError;
use devicemapper::{DM, DevId, Device, DmError, DmFlags, DmName, DmOptions, DmUdevFlags, DmUuid};

use super::fault;
use crate::names::{self, DmRole};

/// Errors that say that somebody has a device open, or that it is not there.
const EBUSY: i32 = 16;
const ENXIO: i32 = 6;

/// What device-mapper failed at.
#[derive(Debug, thiserror::Error)]
#[error("device-mapper can't {what} {device}: {source}")]
pub(super) struct DmFailure {
    what: &'static str,
    device: String,
    source: io::Error,
}

impl DmFailure {
    fn new(what: &'static str, device: &str, error: DmError) -> Self {
        let source = match error {
            DmError::Core(CoreError::Ioctl(_, _, _, errno)) => io::Error::from_raw_os_error(*errno as i32),
            other => io::Error::other(other.to_string()),
        };
        Self { what, device: device.to_owned(), source }
    }

    fn is(&self, errno: i32) -> bool {
        self.source.raw_os_error() == Some(errno)
    }
}

impl From<DmFailure> for io::Error {
    fn from(failure: DmFailure) -> Self {
        // The kind is kept: whoever asks why there is no disk sorts by it.
        Self::new(failure.source.kind(), failure)
    }
}

/// A line of a table: what a range of the device is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) start: u64,
    pub(super) sectors: u64,
    pub(super) target: String,
    pub(super) parameters: String,
}

impl Line {
    /// The only line of a device of that many sectors.
    pub(super) fn only(sectors: u64, target: &str, parameters: impl Into<String>) -> Vec<Self> {
        vec![Self { start: 0, sectors, target: target.to_owned(), parameters: parameters.into() }]
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.start, self.sectors, self.target, self.parameters)
    }
}

/// A device of ours that is there.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) role: DmRole,
    pub(super) device: Device,
    /// How many have it open, other devices included.
    pub(super) open: u32,
    /// Whether what is asked of it is held back.
    is_suspended: bool,
}

/// What [`Dm::remove`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removal {
    /// It is gone, or was not there.
    Gone,
    /// Somebody has it open.
    Busy,
}

/// The way to device-mapper.
pub(super) struct Dm {
    dm: DM,
    tag: String,
}

/// What clients keep on their disks is no business of this machine's: nobody is to look for file systems, volume
/// groups or RAIDs there, nor keep the device open meanwhile.
fn quiet() -> DmOptions {
    let flags = DmUdevFlags::DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG
        | DmUdevFlags::DM_UDEV_DISABLE_DISK_RULES_FLAG
        | DmUdevFlags::DM_UDEV_DISABLE_OTHER_RULES_FLAG;
    DmOptions::default().set_udev_flags(flags)
}

impl Dm {
    /// The devices that have `tag`.
    pub(super) fn open(tag: &str) -> io::Result<Self> {
        let dm = DM::new().map_err(|e| DmFailure::new("use", "/dev/mapper/control", e))?;
        Ok(Self { dm, tag: tag.to_owned() })
    }

    pub(super) fn tag(&self) -> &str {
        &self.tag
    }

    /// The kinds of devices that the kernel can make now.
    pub(super) fn targets(&self) -> io::Result<Vec<String>> {
        let versions = self.dm.list_versions().map_err(|e| DmFailure::new("list", "its targets", e))?;
        Ok(versions.into_iter().map(|(name, ..)| name).collect())
    }

    fn name(&self, role: &DmRole) -> io::Result<String> {
        names::dm_name(&self.tag, role).map_err(io::Error::other)
    }

    /// Makes a device, whole or not at all.
    pub(super) fn create(&self, role: &DmRole, table: &[Line], read_only: bool) -> io::Result<Device> {
        let name = self.name(role)?;
        let uuid = names::dm_uuid(&name);
        let dm_uuid = DmUuid::new(&uuid).map_err(|e| DmFailure::new("name", &name, e))?;
        self.dm
            .device_create(dm_id(&name)?, Some(dm_uuid), quiet())
            .map_err(|e| DmFailure::new("create", &name, e))?;
        let filled = self.load(&name, table, read_only).and_then(|()| self.resume(&name));
        match filled {
            Ok(device) => Ok(device),
            Err(e) => {
                // Nobody can have it open yet.
                let _ = self.remove(role);
                Err(e)
            }
        }
    }

    /// Gives a device another table. What is under way is held back meanwhile and then goes on by the new one.
    pub(super) fn change(&self, role: &DmRole, table: &[Line], read_only: bool) -> io::Result<()> {
        let name = self.name(role)?;
        self.load(&name, table, read_only)?;
        let options = quiet().set_flags(DmFlags::DM_SUSPEND | DmFlags::DM_NOFLUSH | DmFlags::DM_SKIP_LOCKFS);
        let id = dm_id(&name)?;
        self.dm.device_suspend(&DevId::Name(id), options).map_err(|e| DmFailure::new("suspend", &name, e))?;
        fault::here("suspended");
        self.resume(&name)?;
        Ok(())
    }

    /// Lets go on what a process that was killed has held back.
    pub(super) fn resume_all(&self) -> io::Result<()> {
        for found in self.ours()?.into_iter().filter(|found| found.is_suspended) {
            self.resume(&self.name(&found.role)?)?;
        }
        Ok(())
    }

    fn load(&self, name: &str, table: &[Line], read_only: bool) -> io::Result<()> {
        let raw: Vec<_> = table
            .iter()
            .map(|line| (line.start, line.sectors, line.target.clone(), line.parameters.clone()))
            .collect();
        let flags = if read_only { DmFlags::DM_READONLY } else { DmFlags::empty() };
        self.dm
            .table_load(&DevId::Name(dm_id(name)?), &raw, quiet().set_flags(flags))
            .map_err(|e| DmFailure::new("load the table of", name, e))?;
        Ok(())
    }

    fn resume(&self, name: &str) -> io::Result<Device> {
        let info = self
            .dm
            .device_suspend(&DevId::Name(dm_id(name)?), quiet())
            .map_err(|e| DmFailure::new("resume", name, e))?;
        Ok(info.device())
    }

    /// Removes a device. One that is busy stays as it is.
    pub(super) fn remove(&self, role: &DmRole) -> io::Result<Removal> {
        self.remove_as(role, DmFlags::empty())
    }

    /// Removes a device as soon as nobody has it open any more.
    pub(super) fn remove_later(&self, role: &DmRole) -> io::Result<Removal> {
        self.remove_as(role, DmFlags::DM_DEFERRED_REMOVE)
    }

    fn remove_as(&self, role: &DmRole, flags: DmFlags) -> io::Result<Removal> {
        let name = self.name(role)?;
        let removed = self.dm.device_remove(&DevId::Name(dm_id(&name)?), quiet().set_flags(flags));
        match removed.map_err(|e| DmFailure::new("remove", &name, e)) {
            // With the flag it may be still there, until it is closed.
            Ok(info) if info.flags().contains(DmFlags::DM_DEFERRED_REMOVE) => Ok(Removal::Busy),
            Ok(_) => Ok(Removal::Gone),
            Err(e) if e.is(ENXIO) => Ok(Removal::Gone),
            Err(e) if e.is(EBUSY) => Ok(Removal::Busy),
            Err(e) => Err(e.into()),
        }
    }

    /// Tells a device's target something.
    pub(super) fn message(&self, role: &DmRole, message: &str) -> io::Result<()> {
        let name = self.name(role)?;
        self.dm
            .target_msg(&DevId::Name(dm_id(&name)?), None, message)
            .map_err(|e| DmFailure::new("send a message to", &name, e))?;
        Ok(())
    }

    /// How a device does, line by line.
    pub(super) fn status(&self, role: &DmRole) -> io::Result<Vec<Line>> {
        self.lines(role, DmFlags::DM_NOFLUSH)
    }

    /// What a device is made of.
    pub(super) fn table(&self, role: &DmRole) -> io::Result<Vec<Line>> {
        self.lines(role, DmFlags::DM_STATUS_TABLE)
    }

    fn lines(&self, role: &DmRole, flags: DmFlags) -> io::Result<Vec<Line>> {
        let name = self.name(role)?;
        let id = dm_id(&name)?;
        let (_, lines) = self
            .dm
            .table_status(&DevId::Name(id), DmOptions::default().set_flags(flags))
            .map_err(|e| DmFailure::new("look at", &name, e))?;
        let line = |(start, sectors, target, parameters)| Line { start, sectors, target, parameters };
        Ok(lines.into_iter().map(line).collect())
    }

    /// The device, if it is there and ours.
    pub(super) fn find(&self, role: &DmRole) -> io::Result<Option<Found>> {
        let name = self.name(role)?;
        match self.dm.device_info(&DevId::Name(dm_id(&name)?)) {
            Ok(info) => {
                let uuid = info.uuid().map(ToString::to_string);
                if uuid.as_deref() != Some(&names::dm_uuid(&name)) {
                    let why = "there is a device of that name that is not bootd's; rename it, or give bootd another tag";
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{name}: {why}")));
                }
                let open = u32::try_from(info.open_count()).unwrap_or(0);
                let is_suspended = info.flags().contains(DmFlags::DM_SUSPEND);
                Ok(Some(Found { role: role.clone(), device: info.device(), open, is_suspended }))
            }
            Err(e) => match DmFailure::new("look at", &name, e) {
                e if e.is(ENXIO) => Ok(None),
                e => Err(e.into()),
            },
        }
    }

    /// All devices of ours, those that stand on others first.
    pub(super) fn ours(&self) -> io::Result<Vec<Found>> {
        let all = self.dm.list_devices().map_err(|e| DmFailure::new("list", "devices", e))?;
        let roles = all.iter().filter_map(|(name, ..)| names::parse_dm_name(&self.tag, &name.to_string()));
        let mut found = Vec::new();
        for role in roles {
            // A name alone makes it nobody's: one with another identifier is left out, not complained about.
            if let Ok(Some(one)) = self.find(&role) {
                found.push(one);
            }
        }
        // Disks by part, then images, then their cache and what is below, then the space.
        found.sort_by(|a, b| b.role.cmp(&a.role).then(std::cmp::Ordering::Equal));
        found.sort_by_key(|one| match &one.role {
            DmRole::Disk { part, .. } => *part as u8,
            DmRole::Image { .. } => 10,
            DmRole::Cache => 11,
            DmRole::Library => 12,
            DmRole::Space => 13,
        });
        Ok(found)
    }
}

fn dm_id(name: &str) -> io::Result<&DmName> {
    DmName::new(name).map_err(|e| DmFailure::new("name", name, e).into())
}
