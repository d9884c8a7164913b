//! Who has which disk: the turns that an engine's calls take.
//!
//! Each client has a place with two locks: `work` is held while its disk is made or ended, so calls for one client
//! follow each other and no other client's wait; `disk` is held to look only, so that listings never wait for whatever
//! a disk is made of.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::record::Files;
use crate::{Attached, Detached, Disk, DiskRequest, EngineError};

/// What an engine keeps of a disk that is attached.
pub(crate) trait Attachment {
    fn disk(&self) -> &Disk;
}

/// All clients that have a disk, or are about to.
pub(crate) struct Places<A> {
    clients: Mutex<HashMap<String, Arc<Place<A>>>>,
}

struct Place<A> {
    work: Mutex<()>,
    disk: Mutex<Option<Arc<A>>>,
    /// What an earlier process left and this one could not take up. The next boot's disk ends it, too.
    stranded: Mutex<Option<Files>>,
}

/// What became of a disk of an earlier process.
pub(crate) enum Found<A> {
    /// It is as it was.
    Whole(A),
    /// There can be none any more.
    Void,
    /// It can't be had now, but may be by a later process.
    Away(Files),
}

impl<A> Default for Places<A> {
    fn default() -> Self {
        Self { clients: Mutex::default() }
    }
}

impl<A> Default for Place<A> {
    fn default() -> Self {
        Self { work: Mutex::default(), disk: Mutex::default(), stranded: Mutex::default() }
    }
}

impl<A> Place<A> {
    fn is_idle(&self) -> bool {
        self.disk.lock().is_none() && self.stranded.lock().is_none()
    }
}

impl<A: Attachment> Places<A> {
    /// Does something in the client's turn.
    fn within<T>(&self, client: &str, work: impl FnOnce(&Place<A>) -> T) -> T {
        let place = {
            let mut clients = self.clients.lock();
            match clients.get(client) {
                Some(place) => Arc::clone(place),
                None => Arc::clone(clients.entry(client.to_owned()).or_default()),
            }
        };
        let turn = place.work.lock();
        let done = work(&place);
        drop(turn);
        let mut clients = self.clients.lock();
        // Ours and the table's: nobody else waits for it, and nobody can come as long as the table is locked.
        if place.is_idle() && Arc::strong_count(&place) == 2 {
            clients.remove(client);
        }
        done
    }

    /// The disk that is asked for: the one that is there, or what `make` makes, in whose place `end` puts an end to that
    /// of the boot before.
    ///
    /// # Errors
    /// Those of `make`, and that the client has booted again since. Nothing has changed then.
    pub(crate) fn attach(
        &self,
        request: &DiskRequest,
        make: impl FnOnce() -> Result<A, EngineError>,
        end: impl FnOnce(&A),
    ) -> Result<Attached, EngineError> {
        self.within(&request.client, |place| {
            if let Some(current) = place.disk.lock().as_ref() {
                let disk = current.disk();
                let (epoch, current) = (request.epoch, disk.request.epoch);
                if current == epoch {
                    return Ok(Attached::Already(disk.clone()));
                }
                if current > epoch {
                    return Err(EngineError::Superseded { client: request.client.clone(), epoch, current });
                }
            }
            let attachment = Arc::new(make()?);
            let disk = attachment.disk().clone();
            let earlier = place.disk.lock().replace(attachment);
            if let Some(earlier) = earlier {
                end(&earlier);
            }
            if let Some(files) = place.stranded.lock().take() {
                // What is left of them is removed by the next reap.
                let _ = files.remove();
            }
            Ok(Attached::Made(disk))
        })
    }

    /// Takes the client's disk of that epoch away, and ends it.
    ///
    /// # Errors
    /// Those of `end`.
    pub(crate) fn detach(
        &self,
        client: &str,
        epoch: u64,
        end: impl FnOnce(&A) -> Result<(), EngineError>,
    ) -> Result<Detached, EngineError> {
        self.within(client, |place| {
            let taken = place.disk.lock().take_if(|one| one.disk().request.epoch == epoch);
            match taken {
                None => Ok(Detached::Absent),
                Some(attachment) => end(&attachment).map(|()| Detached::Removed),
            }
        })
    }

    /// Takes up a disk of an earlier process, unless the client has one by now. Says whether its record still counts.
    ///
    /// # Errors
    /// Those of `find`.
    pub(crate) fn adopt(
        &self,
        client: &str,
        find: impl FnOnce() -> io::Result<Found<A>>,
    ) -> io::Result<bool> {
        self.within(client, |place| {
            if place.disk.lock().is_some() {
                return Ok(true);
            }
            match find()? {
                Found::Whole(attachment) => *place.disk.lock() = Some(Arc::new(attachment)),
                Found::Away(files) => *place.stranded.lock() = Some(files),
                Found::Void => return Ok(false),
            }
            Ok(true)
        })
    }

    /// The client's disk of that epoch. Waits for nobody.
    #[cfg_attr(not(feature = "kernel"), allow(dead_code))]
    pub(crate) fn get(&self, client: &str, epoch: u64) -> Option<Arc<A>> {
        let disk = self.clients.lock().get(client)?.disk.lock().clone();
        disk.filter(|one| one.disk().request.epoch == epoch)
    }

    /// All disks, by client. Waits for nobody.
    pub(crate) fn all(&self) -> Vec<Arc<A>> {
        let clients = self.clients.lock();
        let mut all: Vec<_> = clients.values().filter_map(|place| place.disk.lock().clone()).collect();
        drop(clients);
        all.sort_by(|a, b| a.disk().request.client.cmp(&b.disk().request.client));
        all
    }
}
