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
use menus::{DiskFacts, MenuError};
use netboot::{BootPlan, Firmware, Start, StepKind, plan_as_usual};
use serde::{Deserialize, Serialize};
use site::entity::EntityName;
use site::{ChoiceKind, Client, ClientName, Image, ImageName, MacAddr, Site};
use tokio::task::{JoinError, spawn_blocking};

use crate::config::Config;
use crate::events::Event;
use crate::scripts::{NO_DISK_TEMPLATE, Script, stranger, use_up};
use crate::serve::iscsi::export_of;
use crate::state::{Link, State, unix_millis};
use crate::texts::{RENDER_DEADLINE, context, disk_facts, render};

/// The template of what signed boot programs run first.
const AUTOEXEC_TEMPLATE: &str = "autoexec.ipxe";

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
    /// It is none of the client's choices.
    #[error("the choice {0} is not offered to {1}")]
    NotOffered(EntityName, ClientName),
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

/// A client that asks for a script, and was admitted.
struct Asking<'a> {
    state: &'a Arc<State>,
    link: &'a Link,
    peer: Ipv4Addr,
    site: Arc<Site>,
    client: Arc<Client>,
    firmware: Option<Firmware>,
    plan: BootPlan,
}

/// The boot script of the client `mac`, which asked from `peer` by `link` and was admitted there; its disk, if it boots
/// from one, has been made when it returns. A client that may choose gets its menu, which makes nothing. One that may
/// not boot gets a script that says why on its screen.
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
    let mut asking = Asking::of(state, link, mac, peer)?;
    if asking.plan.start == Start::Register {
        return asking.text(&state.registrations.script(mac)).await;
    }
    if let Start::Once(choice) = asking.plan.start.clone() {
        let text = asking.text(&Script::Choice(Arc::clone(&choice))).await?;
        let name = &asking.client.name;
        let Err(why) = use_up(state, name, &choice.name).await else { return Ok(text) };
        // To boot it now and again would be worse than to boot it later: it may be an installer.
        let what = format!("{name} boots as usual, and {} still once: {why}", choice.name);
        state.events.emit(Event::Trouble { service: "boot", what });
        asking.plan_as_usual();
    }
    let script = Script::of(&asking.plan);
    asking.text(&script).await
}

/// The form for the machine `mac` once more, after what was typed there could not be taken.
///
/// # Errors
/// As [`script`].
pub(crate) async fn form(
    state: &Arc<State>,
    link: &Link,
    mac: MacAddr,
    peer: Ipv4Addr,
    why: String,
) -> Result<String, ScriptError> {
    Asking::of(state, link, mac, peer)?.text(&Script::Register(vec![why])).await
}

/// The menu of the client `mac`, as [`script`].
///
/// # Errors
/// As [`script`]; and when it has none.
pub(crate) async fn menu(
    state: &Arc<State>,
    link: &Link,
    mac: MacAddr,
    peer: Ipv4Addr,
) -> Result<String, ScriptError> {
    let asking = Asking::of(state, link, mac, peer)?;
    if !asking.plan.may_boot() {
        return asking.text(&Script::Nothing).await;
    }
    asking.text(&Script::Menu).await
}

/// The script of one of the choices of the client `mac`, as [`script`].
///
/// # Errors
/// As [`script`]; and when it may not boot that.
pub(crate) async fn choice(
    state: &Arc<State>,
    link: &Link,
    mac: MacAddr,
    peer: Ipv4Addr,
    name: &EntityName,
) -> Result<String, ScriptError> {
    let _turn = state.script_turns.of(mac).lock().await;
    let asking = Asking::of(state, link, mac, peer)?;
    let Some(choice) = asking.plan.choice(name.as_str()).cloned() else {
        return Err(ScriptError::NotOffered(name.clone(), asking.client.name.clone()));
    };
    asking.text(&Script::Choice(choice)).await
}

impl<'a> Asking<'a> {
    fn of(state: &'a Arc<State>, link: &'a Link, mac: MacAddr, peer: Ipv4Addr) -> Result<Self, ScriptError> {
        let site = state.site.load_full();
        let firmware = state.firmwares.of(mac);
        let plan = state.plan_at(&site, link, peer, mac);
        let stranger = || plan.may_boot().then(|| stranger(mac).ok().map(Arc::new)).flatten();
        let Some(client) = plan.client.clone().or_else(stranger) else {
            state.counters.scripts_failed.inc();
            return Err(ScriptError::UnknownClient(mac));
        };
        Ok(Self { state, link, peer, site, client, firmware, plan })
    }

    fn plan_as_usual(&mut self) {
        let asker = self.state.visitor(self.client.mac);
        let settings = self.state.settings_at(self.link, self.peer);
        self.plan = plan_as_usual(&asker, &self.link.interface, &self.site, settings);
    }

    /// The script, and what it takes to boot by it.
    async fn text(&self, script: &Script) -> Result<String, ScriptError> {
        let Self { state, peer, client, .. } = self;
        let leads_on = match script {
            Script::Nothing | Script::Register(_) | Script::Waiting(_) | Script::Menu => true,
            Script::Choice(choice) => choice.kind == ChoiceKind::Menu,
            Script::Disk => false,
        };
        if leads_on {
            let text = self.render(script, None, None).await?;
            let name = match script {
                Script::Choice(choice) => Some(choice.title.clone()),
                Script::Menu => Some(client.name.to_string()),
                Script::Register(_) | Script::Waiting(_) => Some("registration".to_owned()),
                Script::Nothing | Script::Disk => None,
            };
            if let Some(name) = name {
                state.step(client.mac, StepKind::Menu { name }, "");
            }
            return Ok(text);
        }
        let epoch = state.boots.lock().on_script(client.mac, unix_millis());
        if let Script::Choice(choice) = script {
            let name = choice.name.to_string();
            state.step_at(client.mac, epoch, StepKind::Choice { name }, "");
        }
        let made = self.make(script, epoch).await;
        match &made {
            Ok((_, image)) => {
                state.counters.scripts_rendered.inc();
                let disk = image.as_ref().map(|image| format!(", fresh disk of {} made", image.name));
                let told = format!("boot script sent to {peer}{}", disk.unwrap_or_default());
                state.tell(client.mac, told);
            }
            Err(e) => {
                state.counters.scripts_failed.inc();
                let why = e.to_string();
                state.boots.lock().record_at(client.mac, epoch, StepKind::ScriptFailed, &why, unix_millis());
                state
                    .events
                    .emit(Event::Trouble { service: "boot", what: format!("{}: {why}", client.name) });
            }
        }
        made.map(|(text, _)| text)
    }

    async fn render(
        &self,
        script: &Script,
        image: Option<&Image>,
        disk: Option<DiskFacts>,
    ) -> Result<String, ScriptError> {
        let Self { state, link, peer, site, client, firmware, plan } = self;
        let facts = script.facts(&state.config, link, client, *peer, *firmware, plan, image, disk);
        Ok(render(state, site, script.template(client), facts).await?.text)
    }

    /// Renders the script, then makes the disk that it speaks of: a template that is wrong resets nothing.
    async fn make(&self, script: &Script, epoch: u64) -> Result<(String, Option<Arc<Image>>), ScriptError> {
        let Self { state, link, peer, client, .. } = self;
        let config = &state.config;
        let Some(image) = script.image(client, &self.site) else {
            return Ok((self.render(script, None, None).await?, None));
        };
        let login = Login {
            mac: client.mac,
            epoch,
            target: if config.engine.is_exported_by_kernel() {
                names::shared_target_iqn(&config.names)
            } else {
                names::target_iqn(&config.names, &image.name, &client.name, epoch)?
            },
            initiator: names::initiator_iqn(&config.names, &client.name)?,
            user: names::initiator_iqn(&config.names, &client.name)?,
            secret: random_secret()?,
        };
        let disk = disk_facts(config, link, &login, *peer, Some(login.secret.clone()));
        let text = self.render(script, Some(&image), Some(disk)).await?;
        let request = disk_request(config, client, &image, &login)?;
        let (engine, checked, by) = (Arc::clone(&state.engine), Image::clone(&image), login.clone());
        let attached = spawn_blocking(move || -> Result<Disk, ScriptError> {
            check_unchanged(checked)?;
            let (Attached::Made(disk) | Attached::Already(disk)) = engine.attach(request)?;
            engine.export(&disk, &export_of(&by, &disk))?;
            Ok(disk)
        });
        let disk = attached.await??;
        state.targets.export(&login, &disk);
        Ok((text, Some(image)))
    }
}

/// What a boot program that looks for `autoexec.ipxe` gets: the way to its boot script, which for a machine that the site
/// doesn't know is what strangers are offered. Makes no disk.
///
/// # Errors
/// When the machine is no client and is offered nothing, or the template is wrong.
pub(crate) async fn autoexec(
    state: &Arc<State>,
    link: &Link,
    mac: MacAddr,
    peer: Ipv4Addr,
) -> Result<String, ScriptError> {
    let Asking { site, client, firmware, plan, .. } = Asking::of(state, link, mac, peer)?;
    let template = if plan.may_boot() { AUTOEXEC_TEMPLATE } else { NO_DISK_TEMPLATE };
    let mut facts = context(&state.config, link, &client, peer, firmware, &plan, None);
    if plan.client.is_none() {
        facts.client.name = None;
    }
    Ok(render(state, &site, template.to_owned(), facts).await?.text)
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
                if let Err(e) = state.engine.export(&disk, &export_of(&login, &disk)) {
                    let what = format!("the disk of {client} was kept, but not exported: {e}");
                    state.events.emit(Event::Trouble { service: "boot", what });
                    continue;
                }
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
