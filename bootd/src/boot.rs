//! What happens when a client asks for its boot script: the boot gets its epoch, the disk is made, the target is
//! opened to this client alone, and the script says how to log in.
//!
//! Only this road makes or resets a disk. A forged DISCOVER can't, a log-in can't, a HEAD request can't: see
//! `docs/booting.md`.

use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use block::Bytes;
use lvm::{Attached, Disk, DiskRequest, EngineError, names};
use menus::MenuError;
use netboot::{Asker, BootPlan, Firmware, Stage, StepKind, plan};
use serde::{Deserialize, Serialize};
use site::{Client, Image, ImageName, MacAddr, Site};
use tokio::task::{JoinError, spawn_blocking};

use crate::config::Config;
use crate::events::Event;
use crate::state::{Link, State, unix_millis};
use crate::texts::{RENDER_DEADLINE, context, disk_facts, render};

/// The template of clients that name none.
const DEFAULT_TEMPLATE: &str = "default.ipxe";

/// The template of what signed boot programs run first.
const AUTOEXEC_TEMPLATE: &str = "autoexec.ipxe";

/// The template of clients that get no disk.
const NO_DISK_TEMPLATE: &str = "nodisk.ipxe";

/// The logical unit that every target has its disk at.
pub(crate) const LUN: u64 = 0;

/// Characters of a CHAP secret, letters and digits: 95 bits that can't be guessed. Windows' initiator takes 12 to 16
/// bytes, so no more fit.
const SECRET_LEN: usize = 16;

/// Who may log in to one boot's disk, and how. Kept by the engine beside the overlay (as its note), so that a
/// daemon that was restarted takes the same sessions back.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Login {
    /// The client's network card: whose timeline the sessions belong to.
    pub(crate) mac: MacAddr,
    /// Which boot.
    pub(crate) epoch: u64,
    /// The target's name.
    pub(crate) target: String,
    /// The only initiator that may log in.
    pub(crate) initiator: String,
    /// The CHAP account's name.
    pub(crate) user: String,
    /// Its secret.
    pub(crate) secret: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("target", &self.target).field("secret", &"***").finish_non_exhaustive()
    }
}

/// Why there is no script. The text is for the client's screen and the log; it holds no secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScriptError {
    /// The site does not know the machine.
    #[error("{0} is no client")]
    UnknownClient(MacAddr),
    /// The client may not boot, so nothing is rendered for it but what tells its user so.
    #[error("{0}")]
    MayNotBoot(String),
    /// The template is wrong, or says what is not there.
    #[error("the template can't be rendered: {0}")]
    Menu(#[from] MenuError),
    /// The template takes too long.
    #[error("the template took longer than {} s to render", RENDER_DEADLINE.as_secs())]
    TooSlow,
    /// The names of the client, the image and the site are too long together.
    #[error("{0}")]
    Name(#[from] names::NameError),
    /// The disk can't be made.
    #[error("the disk can't be made: {0}")]
    Disk(#[from] EngineError),
    /// The image is not what was taken in.
    #[error(
        "the image {image} had {was} bytes when it was taken in, and {} has {is}: put back the file that it was, or \
         take in the new one (bootd image add {image} FILE)",
        path.display()
    )]
    ImageChanged {
        /// The image.
        image: ImageName,
        /// Its file.
        path: PathBuf,
        /// Its length as the site knows it, in bytes.
        was: u64,
        /// The file's length now, in bytes.
        is: u64,
    },
    /// No file of that name is kept on the client.
    #[error("no file {0} is kept on this client")]
    NoSuchFile(String),
    /// A file that is to be kept on the client can't be had.
    #[error("file {file}: {reason}")]
    ManagedFile {
        /// Which, by its entity.
        file: String,
        /// Why.
        reason: String,
    },
    /// A bug, or a machine without randomness.
    #[error("internal error: {0}")]
    Internal(String),
}

impl From<JoinError> for ScriptError {
    fn from(error: JoinError) -> Self {
        Self::Internal(error.to_string())
    }
}

/// The boot script of the client `mac`, which asked from `peer` by `link` and was admitted there; its disk has
/// been made when it returns. A client that may not boot gets a script that says why on its screen.
///
/// # Errors
/// When there can be no script. It has been put in the timeline, logged and counted; a disk of an earlier boot
/// goes on.
pub(crate) async fn script(
    state: &Arc<State>,
    link: &Link,
    mac: MacAddr,
    peer: Ipv4Addr,
) -> Result<String, ScriptError> {
    // One at a time for each client, so that the later epoch's disk is the one that stays.
    let _turn = state.script_turns.of(mac).lock().await;
    let site = state.site.load_full();
    let firmware = state.firmwares.lock().get(&mac).copied();
    let plan = plan(&Asker::supposed(mac, Stage::Ipxe, firmware), &link.interface, &site, &link.settings);
    let Some(client) = plan.client.clone() else {
        state.counters.scripts_failed.inc();
        return Err(ScriptError::UnknownClient(mac));
    };
    let Some(image) = plan.image.clone() else {
        let facts = context(&state.config, link, &client, peer, firmware, &plan, None);
        return Ok(render(state, &site, NO_DISK_TEMPLATE.to_owned(), facts).await?.text);
    };
    let epoch = state.boots.lock().on_script(mac, unix_millis());
    let made = make(state, &site, link, &client, &image, &plan, epoch, peer, firmware).await;
    match &made {
        Ok(_) => {
            state.counters.scripts_rendered.inc();
            state.tell(mac, format!("boot script sent to {peer}, fresh disk of {} made", image.name));
        }
        Err(e) => {
            state.counters.scripts_failed.inc();
            let why = e.to_string();
            state.boots.lock().record_at(mac, epoch, StepKind::ScriptFailed, &why, unix_millis());
            state.events.emit(Event::Trouble { service: "boot", what: format!("{}: {why}", client.name) });
        }
    }
    made
}

/// The template of the client's boot script.
pub(crate) fn script_template<'a>(client: &'a Client, plan: &BootPlan) -> &'a str {
    if plan.may_boot() { client.menu.as_deref().unwrap_or(DEFAULT_TEMPLATE) } else { NO_DISK_TEMPLATE }
}

/// What a boot program that looks for `autoexec.ipxe` gets: the way to its boot script. Makes no disk.
///
/// # Errors
/// When the machine is no client, or the template is wrong.
pub(crate) async fn autoexec(
    state: &Arc<State>,
    link: &Link,
    mac: MacAddr,
    peer: Ipv4Addr,
) -> Result<String, ScriptError> {
    let site = state.site.load_full();
    let firmware = state.firmwares.lock().get(&mac).copied();
    let plan = plan(&Asker::supposed(mac, Stage::Ipxe, firmware), &link.interface, &site, &link.settings);
    let client = plan.client.clone().ok_or(ScriptError::UnknownClient(mac))?;
    let template = if plan.may_boot() { AUTOEXEC_TEMPLATE } else { NO_DISK_TEMPLATE };
    let facts = context(&state.config, link, &client, peer, firmware, &plan, None);
    Ok(render(state, &site, template.to_owned(), facts).await?.text)
}

/// Renders the script, then makes the disk that it speaks of: a template that is wrong resets nothing.
#[allow(clippy::too_many_arguments)]
async fn make(
    state: &Arc<State>,
    site: &Arc<Site>,
    link: &Link,
    client: &Client,
    image: &Image,
    plan: &BootPlan,
    epoch: u64,
    peer: Ipv4Addr,
    firmware: Option<Firmware>,
) -> Result<String, ScriptError> {
    let config = &state.config;
    let login = Login {
        mac: client.mac,
        epoch,
        target: names::target_iqn(&config.names, &image.name, &client.name, epoch)?,
        initiator: names::initiator_iqn(&config.names, &client.name)?,
        user: names::initiator_iqn(&config.names, &client.name)?,
        secret: random_secret()?,
    };
    let disk = disk_facts(config, link, &login, peer, Some(login.secret.clone()));
    let facts = context(config, link, client, peer, firmware, plan, Some(disk));
    let template = script_template(client, plan).to_owned();
    let text = render(state, site, template, facts).await?.text;
    let request = disk_request(config, client, image, &login)?;
    let (engine, image) = (Arc::clone(&state.engine), image.clone());
    let attached = spawn_blocking(move || -> Result<Attached, ScriptError> {
        check_unchanged(image)?;
        Ok(engine.attach(request)?)
    });
    let (Attached::Made(disk) | Attached::Already(disk)) = attached.await??;
    state.targets.export(&login, &disk);
    Ok(text)
}

/// Whether the image's file still has the length that it was taken in with; a file of another length is not that
/// version, whatever its name. That it is missing is the engine's to say.
fn check_unchanged(image: Image) -> Result<(), ScriptError> {
    match fs::metadata(&image.path) {
        Ok(file) if file.is_file() && file.len() != image.size => {
            let Image { name, path, size, .. } = image;
            Err(ScriptError::ImageChanged { image: name, path, was: size, is: file.len() })
        }
        _ => Ok(()),
    }
}

/// What the engine is asked for.
fn disk_request(
    config: &Config,
    client: &Client,
    image: &Image,
    login: &Login,
) -> Result<DiskRequest, ScriptError> {
    Ok(DiskRequest {
        client: client.name.to_string(),
        epoch: login.epoch,
        image: image.name.to_string(),
        version: image.version.to_string(),
        path: image.path.clone(),
        overlay_limit: overlay_limit(config, client),
        note: serde_json::to_string(login).map_err(|e| ScriptError::Internal(e.to_string()))?,
    })
}

/// How much the client may write.
pub(crate) fn overlay_limit(config: &Config, client: &Client) -> Bytes {
    client.overlay_limit.map_or(config.overlay_limit, Bytes)
}

/// Opens the targets of the disks that the engine took over from an earlier process, and says which clients' boots
/// go on. A disk whose client was removed is removed, too: nobody would ever reset it. A disk whose note makes no
/// sense stays closed until its client boots again.
pub(crate) fn adopt(state: &State, disks: Vec<Disk>) -> usize {
    let mut adopted = 0;
    let site = state.site.load_full();
    for disk in disks {
        let DiskRequest { client, epoch, .. } = &disk.request;
        if !client.parse().is_ok_and(|name| site.client(&name).is_some()) {
            if let Err(e) = state.engine.detach(client, *epoch) {
                let what = format!("the disk of {client}, which is no client any more, is still there: {e}");
                state.events.emit(Event::Trouble { service: "boot", what });
            }
            continue;
        }
        match serde_json::from_str::<Login>(&disk.request.note) {
            Ok(login) => {
                state.boots.lock().adopt(login.mac, login.epoch, unix_millis());
                state.targets.export(&login, &disk);
                adopted += 1;
            }
            Err(e) => {
                let what = format!(
                    "the disk of {} was kept, but not who may log in to it ({e}): the client must boot again",
                    disk.request.client
                );
                state.events.emit(Event::Trouble { service: "boot", what });
            }
        }
    }
    adopted
}

/// A CHAP secret that nobody can guess.
fn random_secret() -> Result<String, ScriptError> {
    const ALPHABET: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let mut secret = String::with_capacity(SECRET_LEN);
    while secret.len() < SECRET_LEN {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|e| ScriptError::Internal(e.to_string()))?;
        // Of 64 values the 62 that are there, each as likely as the others.
        let letters = bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 63)));
        secret.extend(letters.take(SECRET_LEN - secret.len()).map(|letter| char::from(*letter)));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::testing;

    #[test]
    fn secrets_are_letters_and_digits_and_never_the_same() {
        let secrets: HashSet<String> = (0..1000).map(|_| random_secret().unwrap()).collect();
        assert_eq!(secrets.len(), 1000);
        let letters: HashSet<char> = secrets.iter().flat_map(|s| s.chars()).collect();
        assert_eq!(letters.len(), 62, "all of the alphabet is used");
        assert!(
            secrets.iter().all(|s| s.len() == SECRET_LEN && s.chars().all(|c| c.is_ascii_alphanumeric()))
        );
    }

    #[tokio::test]
    async fn disks_of_removed_clients_are_not_adopted() {
        let directory = tempfile::tempdir().unwrap();
        let (state, _store, _told) = testing::state(directory.path());
        state.site.store(Arc::new(testing::site(directory.path())));
        script(&state, &state.links[0], testing::MAC, [10, 0, 0, 7].into()).await.unwrap();
        assert_eq!(adopt(&state, state.engine.reap().unwrap()), 1);
        state.site.store(Arc::new(Site::new(2, vec![], vec![])));
        assert_eq!(adopt(&state, state.engine.reap().unwrap()), 0);
        assert!(state.engine.list().is_empty(), "the disk is still there");
    }

    #[test]
    fn a_login_never_shows_its_secret() {
        let login = Login {
            mac: MacAddr::new([2, 0, 0, 0, 0, 1]),
            epoch: 1,
            target: "iqn.t".into(),
            initiator: "iqn.i".into(),
            user: "iqn.i".into(),
            secret: "hunter2hunter2hu".into(),
        };
        assert!(!format!("{login:?}").contains("hunter2"));
    }
}
