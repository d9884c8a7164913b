//! The iSCSI portal: the one place where the protocol and the disks meet.

/// The disks that may be logged in to, by target name.
#[derive(Default)]
pub(crate) struct TargetTable;
