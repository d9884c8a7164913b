//! The iSCSI service: the portal, with the disks of boots in it and bootd's log, counters and timelines around it.

mod elsewhere;
mod glue;
pub mod portal;

pub(crate) use glue::{Iscsi, TargetTable, export_of};
