//! Texts that are made for the client that asks, from templates: what a template may say, and rendering it where that
//! holds up nobody.
//!
//! A boot script is one of them ([`boot`](crate::boot) makes it and its disk). Any other name that a template stands for
//! is rendered whenever it is asked for, as often as that is, and changes nothing. So it is told of the boot that its
//! client is in, but not that boot's secret: whoever uses the machine may ask for it, hours later.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use menus::{BootFacts, ClientFacts, ConfigView, Context, DiskFacts, Found, Secret, ServerFacts, Stop};
use netboot::{Asker, BootPlan, Firmware, Stage, script_url};
use site::{Client, MacAddr, Site};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::boot::{LUN, Login, ScriptError};
use crate::config::Config;
use crate::scripts::menu_facts;
use crate::state::{Link, State};

/// How long a text may take to render. A template that takes longer is a mistake; its client gets an error.
pub(crate) const RENDER_DEADLINE: Duration = Duration::from_secs(1);

/// How many texts may be rendered at once. Further ones wait, and their waiting counts to the deadline.
static RENDERERS: Semaphore = Semaphore::const_new(8);

/// A text and the template that it was made from.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    /// The text.
    pub(crate) text: String,
    /// The template.
    pub(crate) found: Found,
}

/// The text that the template `name` makes for the client `mac`, which asked from `peer` by `link` and was admitted
/// there.
///
/// # Errors
/// When there is none for it, or it can't be rendered.
pub(crate) async fn text(
    state: &Arc<State>,
    link: &Link,
    mac: MacAddr,
    peer: Ipv4Addr,
    name: &str,
) -> Result<Text, ScriptError> {
    let site = state.site.load_full();
    let facts = facts(state, &site, link, mac, peer)?;
    render(state, &site, name.to_owned(), facts).await
}

/// What a text may say that the client `mac` asks for from `peer` by `link`.
///
/// # Errors
/// When it is no client, or one that may not boot.
pub(crate) fn facts(
    state: &State,
    site: &Site,
    link: &Link,
    mac: MacAddr,
    peer: Ipv4Addr,
) -> Result<Context, ScriptError> {
    let firmware = state.firmwares.of(mac);
    let plan = state.plan_at(site, link, peer, mac);
    let client = plan.client.clone().ok_or(ScriptError::UnknownClient(mac))?;
    if !plan.may_boot() {
        let why: Vec<String> = plan.why.iter().map(ToString::to_string).collect();
        return Err(ScriptError::MayNotBoot(why.join(" ")));
    }
    let disk = state.targets.login_of(mac).map(|login| disk_facts(&state.config, link, &login, peer, None));
    Ok(context(&state.config, link, &client, peer, firmware, &plan, disk))
}

/// What a template may say.
pub(crate) fn context(
    config: &Config,
    link: &Link,
    client: &Client,
    peer: Ipv4Addr,
    firmware: Option<Firmware>,
    plan: &BootPlan,
    disk: Option<DiskFacts>,
) -> Context {
    let (firmware_name, arch) = match firmware {
        None | Some(Firmware::Bios) => ("bios", "x86_64"),
        Some(Firmware::UefiX64) => ("uefi", "x86_64"),
        Some(Firmware::UefiIa32) => ("uefi", "i386"),
        Some(Firmware::UefiArm32) => ("uefi", "arm32"),
        Some(Firmware::UefiArm64 | Firmware::RaspberryPi) => ("uefi", "arm64"),
        Some(Firmware::Unknown(_)) => ("uefi", "unknown"),
    };
    let asker = Asker::supposed(client.mac, Stage::Ipxe, firmware);
    Context {
        client: ClientFacts {
            name: Some(client.name.clone()),
            mac: client.mac,
            address: Some(peer),
            image: client.image.clone(),
        },
        server: ServerFacts {
            name: config.server.clone(),
            address: link.interface.address,
            http_port: config.http_port,
        },
        boot: BootFacts {
            address: Some(peer),
            firmware: firmware_name.to_owned(),
            arch: arch.to_owned(),
            script_url: plan.may_boot().then(|| script_url(&asker, &link.interface, &link.settings)),
            disk,
        },
        why: plan.why.iter().map(ToString::to_string).collect(),
        menu: menu_facts(link, client, firmware, plan),
        choice: None,
    }
}

/// What a template may say of the disk.
pub(crate) fn disk_facts(
    config: &Config,
    link: &Link,
    login: &Login,
    peer: Ipv4Addr,
    secret: Option<String>,
) -> DiskFacts {
    DiskFacts {
        epoch: login.epoch,
        portal: link.interface.address,
        port: config.iscsi_port,
        target: login.target.clone(),
        initiator: login.initiator.clone(),
        user: login.user.clone(),
        secret: secret.map(Secret::new),
        lun: LUN,
        on_link: link.interface.contains(peer),
    }
}

/// Renders where it holds up nobody, and not for ever.
pub(crate) async fn render(
    state: &Arc<State>,
    site: &Arc<Site>,
    template: String,
    context: Context,
) -> Result<Text, ScriptError> {
    let view: Arc<dyn ConfigView> = Arc::<Site>::clone(site);
    let (menus, stop) = (state.menus.load_full(), Stop::default());
    let told = stop.clone();
    let work = async move {
        let permit = RENDERERS.acquire().await.map_err(|e| ScriptError::Internal(e.to_string()))?;
        let rendered = spawn_blocking(move || {
            let _until_done = permit;
            let found = menus.find(&template, &context, view.as_ref())?;
            Ok(Text { text: menus.render_found(&found, &context, &view, &told)?, found })
        });
        rendered.await?
    };
    let rendered = tokio::time::timeout(RENDER_DEADLINE, work).await;
    rendered.unwrap_or_else(|_| {
        // Its thread is free again at its next step; nobody waits for it.
        stop.stop();
        Err(ScriptError::TooSlow)
    })
}
