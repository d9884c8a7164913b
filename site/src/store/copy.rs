//! What a server held when it was last asked, on this machine's disk: clients boot from it while the server is down,
//! and after a start it is brought forward instead of all being read from the server.
//!
//! It is an SQLite file of the same form as a site's own, without the log. Each state is written in one transaction. A
//! checksum over all of it is kept with it, so that a file that was damaged, or edited, is never served from.

use std::path::{Path, PathBuf};

use super::BUSY_TIMEOUT;
use super::error::StoreError;
use super::rows::{self, How, Known};
use super::sql::{Purpose, Sql};
use super::sqlite::Sqlite;
use crate::entity::{Entity, Model};

/// An open copy.
pub(super) struct LocalCopy {
    sqlite: Sqlite,
    origin: String,
    known: Option<Known>,
    /// The sum of the entities' hashes: an edit changes it by the entities that it touches.
    sum: u128,
}

impl LocalCopy {
    /// Opens the copy of the database `origin` at `path`, and checks that it is whole. One that is damaged is begun
    /// anew, and the second says so.
    pub(super) fn open(path: &Path, origin: &str) -> Result<(Self, Option<String>), StoreError> {
        match Self::open_whole(path, origin) {
            Err(error @ StoreError::Damaged { .. }) => {
                for ending in ["", "-wal", "-shm"] {
                    let mut file = path.as_os_str().to_owned();
                    file.push(ending);
                    // What is left of it is found when it is opened again.
                    let _ = std::fs::remove_file(PathBuf::from(file));
                }
                let (copy, _) = Self::open_whole(path, origin)?;
                Ok((copy, Some(format!("the local copy of the site is made anew: {error}"))))
            }
            opened => opened,
        }
    }

    fn open_whole(path: &Path, origin: &str) -> Result<(Self, Option<String>), StoreError> {
        let mut sqlite = Sqlite::open(path, BUSY_TIMEOUT)?;
        sqlite.execute(
            "CREATE TABLE IF NOT EXISTS copy (one INTEGER PRIMARY KEY CHECK (one = 1), origin TEXT NOT NULL, \
             digest TEXT NOT NULL) STRICT",
            &[],
        )?;
        let mut copy = Self { sqlite, origin: origin.to_owned(), known: None, sum: 0 };
        let mut kept = None;
        copy.sqlite.each("SELECT origin, digest FROM copy", &[], &mut |row| {
            kept = Some((row.text(0)?.to_owned(), row.text(1)?.to_owned()));
            Ok(())
        })?;
        match kept {
            None => return Ok((copy, None)),
            Some((of, _)) if of != origin => {
                return Ok((copy, Some(format!("the local copy of the site was {of}'s and is made anew"))));
            }
            Some((_, digest)) => {
                let damaged = |reason: String| StoreError::Damaged { path: path.to_owned(), reason };
                copy.sqlite.begin(Purpose::Reading)?;
                let read = rows::catch_up(&mut copy.sqlite, None);
                let (known, _) = read.map_err(|error| damaged(error.to_string()))?;
                copy.sum = sum(known.site.model());
                if copy.digest(&known)? != digest {
                    return Err(damaged("its checksum is not that of its content".to_owned()));
                }
                copy.sqlite.rollback();
                copy.known = Some(known);
            }
        }
        Ok((copy, None))
    }

    /// What it holds.
    pub(super) fn known(&self) -> Option<&Known> {
        self.known.as_ref()
    }

    /// Writes a state in place of the one before.
    pub(super) fn keep(&mut self, now: &Known, how: &How) -> Result<(), StoreError> {
        let before = self.known.as_ref().map(|known| known.head.stamp.as_str());
        if before == Some(now.head.stamp.as_str()) {
            return Ok(());
        }
        let model = now.site.model();
        self.sqlite.begin(Purpose::Editing)?;
        let sum = match (how, &self.known) {
            (How::Followed { from, effects }, Some(known)) if before == Some(from) => {
                let touched = rows::write_content(&mut self.sqlite, model, effects)?;
                touched.iter().fold(self.sum, |sum, id| {
                    let hash =
                        |model: &Model| model.get(id.kind.as_str(), id.name.as_str()).map_or(0, |e| hash(e));
                    sum.wrapping_sub(hash(known.site.model())).wrapping_add(hash(model))
                })
            }
            _ => {
                rows::replace_content(&mut self.sqlite, model)?;
                sum(model)
            }
        };
        self.sum = sum;
        rows::settle(&mut self.sqlite, now.head.revision, &now.head.stamp)?;
        let digest = self.digest(now)?;
        self.sqlite.execute("DELETE FROM copy", &[])?;
        let row = [self.origin.as_str().into(), digest.as_str().into()];
        self.sqlite.execute("INSERT INTO copy (one, origin, digest) VALUES (1, $1, $2)", &row)?;
        self.sqlite.commit()?;
        self.known = Some(now.clone());
        Ok(())
    }

    /// Called when [`keep`](Self::keep) failed: what the file holds now is not known.
    pub(super) fn forget(&mut self) {
        self.sqlite.rollback();
        self.known = None;
    }

    /// The checksum of what the open transaction sees. Definitions as they are written: a release may read them
    /// otherwise.
    fn digest(&mut self, known: &Known) -> Result<String, StoreError> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.sum.to_le_bytes());
        hasher.update(&known.head.revision.to_le_bytes());
        add(&mut hasher, &known.head.stamp);
        let query = "SELECT kind, variable, definition FROM definition ORDER BY kind, variable";
        self.sqlite.each(query, &[], &mut |row| {
            for column in 0..3 {
                add(&mut hasher, row.text(column)?);
            }
            Ok(())
        })?;
        Ok(hasher.finalize().to_hex().to_string())
    }
}

fn sum(model: &Model) -> u128 {
    model.all().fold(0, |sum, entity| sum.wrapping_add(hash(entity)))
}

fn hash(entity: &Entity) -> u128 {
    let mut hasher = blake3::Hasher::new();
    add(&mut hasher, entity.id().kind.as_str());
    add(&mut hasher, entity.id().name.as_str());
    for (variable, values) in entity.variables() {
        add(&mut hasher, variable.as_str());
        hasher.update(&values.len().to_le_bytes());
        values.iter().for_each(|value| add(&mut hasher, value));
    }
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    u128::from_le_bytes(bytes)
}

/// With its length, so that no two lists of texts are alike.
fn add(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&text.len().to_le_bytes());
    hasher.update(text.as_bytes());
}
