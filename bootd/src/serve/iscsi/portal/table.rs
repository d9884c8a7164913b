//! The disks that can be logged in to.

use std::collections::HashMap;
use std::sync::Arc;

use block::Volume;
use iscsi::{Directory, Target};
use parking_lot::RwLock;

/// A disk under its iSCSI name.
pub struct Export {
    target: Arc<Target>,
    pub(super) volume: Arc<dyn Volume>,
    /// Held shared by what writes, and alone by what reads and writes in one: COMPARE AND WRITE, ORWRITE. Only the
    /// sessions on this one disk meet here.
    pub(super) writers: RwLock<()>,
}

impl Export {
    /// What initiators log in to.
    #[must_use]
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }
}

/// All disks that can be logged in to, by iSCSI name. It is looked at when someone logs in, and not after.
#[derive(Default)]
pub struct Table {
    all: RwLock<HashMap<String, Arc<Export>>>,
}

impl Table {
    /// Lets initiators log in to `volume` by `target`. What had that name before is removed.
    pub fn insert(&self, target: Target, volume: Arc<dyn Volume>) -> Arc<Export> {
        let name = target.name().to_owned();
        let export = Arc::new(Export { target: Arc::new(target), volume, writers: RwLock::default() });
        let replaced = self.all.write().insert(name, Arc::clone(&export));
        if let Some(replaced) = replaced {
            replaced.target.remove();
        }
        export
    }

    /// Takes a disk away: it is no longer found, and its sessions end. `false` if there was none of that name.
    pub fn remove(&self, name: &str) -> bool {
        let removed = self.all.write().remove(name);
        removed.inspect(|removed| removed.target.remove()).is_some()
    }

    /// The disk that `target` stands for, if it is still there.
    pub(super) fn export_of(&self, target: &Arc<Target>) -> Option<Arc<Export>> {
        let export = self.all.read().get(target.name()).cloned()?;
        Arc::ptr_eq(&export.target, target).then_some(export)
    }
}

impl Directory for Table {
    fn target(&self, iqn: &str) -> Option<Arc<Target>> {
        self.all.read().get(iqn).map(|export| Arc::clone(&export.target))
    }

    fn targets_for(&self, initiator: &str) -> Vec<Arc<Target>> {
        let all = self.all.read();
        let may_see = |target: &&Arc<Target>| {
            let owner = target.credentials().initiator.as_ref();
            owner.is_none_or(|owner| owner.eq_ignore_ascii_case(initiator))
        };
        all.values().map(|export| &export.target).filter(may_see).cloned().collect()
    }
}
