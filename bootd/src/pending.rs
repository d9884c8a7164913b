//! Stands in for what `lvm` will have, so that the rest can be built and tried. Goes when it is there.
#![allow(clippy::all, clippy::unwrap_used, missing_docs)]

use lvm::*;

/// stub
pub(crate) mod images {
    use std::path::*;

    pub(crate) struct Imported {
        pub(crate) version: String,
        pub(crate) path: PathBuf,
        pub(crate) size: u64,
    }
    pub(crate) fn use_in_place(
        file: &Path,
        _p: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Imported, std::io::Error> {
        Ok(Imported { version: "1".into(), path: file.into(), size: std::fs::metadata(file)?.len() })
    }
    pub(crate) fn import(
        dir: &Path,
        name: &str,
        file: &Path,
        _p: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Imported, std::io::Error> {
        let path = dir.join(name);
        std::fs::copy(file, &path)?;
        Ok(Imported { version: "1".into(), size: std::fs::metadata(&path)?.len(), path })
    }
}
pub(crate) struct SimEngine(parking_lot::Mutex<Vec<Disk>>);
impl SimEngine {
    pub(crate) fn new() -> Self {
        Self(Default::default())
    }
}
impl Engine for SimEngine {
    fn name(&self) -> &'static str {
        "sim"
    }
    fn attach(&self, request: DiskRequest) -> Result<Attached, EngineError> {
        let d = Disk {
            request,
            geometry: block::Geometry::new(block::BlockCount::new(8)).unwrap(),
            volume: None,
        };
        let mut a = self.0.lock();
        a.retain(|o| o.request.client != d.request.client);
        a.push(d.clone());
        Ok(Attached::Made(d))
    }
    fn detach(&self, c: &str, _e: u64) -> Result<Detached, EngineError> {
        self.0.lock().retain(|o| o.request.client != c);
        Ok(Detached::Removed)
    }
    fn list(&self) -> Vec<Disk> {
        self.0.lock().clone()
    }
    fn status(&self) -> Vec<DiskStatus> {
        self.list()
            .into_iter()
            .map(|d| DiskStatus { request: d.request, overlay_used: block::Bytes(0) })
            .collect()
    }
    fn cache(&self) -> Vec<CacheStatus> {
        vec![]
    }
    fn reap(&self) -> Result<Vec<Disk>, EngineError> {
        Ok(vec![])
    }
}
