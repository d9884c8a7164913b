//! The targets that initiators find.

use std::sync::Arc;

use iscsi::{Account, Credentials, Directory, Identity, Lun, LunOptions, Secret, Target};

use super::disk;

/// For anyone.
pub(super) const OPEN: &str = "iqn.2026-01.internal.lab.server:image:c1:1";
/// For who can prove to be [`INITIATOR`], and it proves itself in turn.
pub(super) const GUARDED: &str = "iqn.2026-01.internal.lab.server:image:c2:1";
pub(super) const INITIATOR: &str = "iqn.2026-01.internal.lab.c1:system-disk";

pub(super) const USER: &str = "joe";
pub(super) const SECRET: &str = "abcdefghijkl1234";
const OTHER_SECRET: &str = "zyxwvutsrqpo9876";

#[derive(Debug)]
pub(super) struct Targets(pub(super) Vec<Arc<Target>>);

impl Targets {
    pub(super) fn new(options: LunOptions) -> Self {
        let account = |user: &str, secret| Account { user: user.to_owned(), secret: Secret::new(secret) };
        let guarded = Credentials {
            initiator: Some(INITIATOR.to_owned()),
            chap: Some(account(USER, SECRET)),
            mutual: Some(account("disk", OTHER_SECRET)),
        };
        let target =
            |name, credentials| Arc::new(Target::new(name, credentials, Arc::new(lun(name, options))));
        Self(vec![target(OPEN, Credentials::default()), target(GUARDED, guarded)])
    }
}

pub(super) fn lun(name: &str, options: LunOptions) -> Lun {
    let identity = Identity {
        vendor: "BOOTD".to_owned(),
        product: "Virtual Disk".to_owned(),
        revision: "1".to_owned(),
        serial: "0123456789abcdef".to_owned(),
        naa: [0x60, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        target_name: name.to_owned(),
    };
    Lun::new(identity, disk::geometry(), options)
}

impl Directory for Targets {
    fn target(&self, iqn: &str) -> Option<Arc<Target>> {
        self.0.iter().find(|target| target.name() == iqn).cloned()
    }

    fn targets_for(&self, initiator: &str) -> Vec<Arc<Target>> {
        let may = |target: &&Arc<Target>| {
            target.credentials().initiator.as_ref().is_none_or(|only| only == initiator)
        };
        self.0.iter().filter(may).cloned().collect()
    }
}
