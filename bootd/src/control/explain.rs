//! What a machine would get now, and why. Nothing is leased, made or reset by asking.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State as Extract};
use lvm::names;
use netboot::{Asker, BootPlan, Firmware, Mode, Settings, Stage, plan};
use site::entity::{CLIENT_TYPE, EntityId};
use site::{Client, ClientName, Image, MacAddr, Site};

use super::answer::Wrong;
use super::api::{Case, ExplainOptions, ExplainedDisk, ExplainedPath, ExplainedScript, Explanation};
use super::{Control, boots, entities};
use crate::boot::{Login, overlay_limit};
use crate::scripts::Script;
use crate::state::{Link, State};
use crate::texts;
use crate::whereabouts::AddressSource;

/// What stands for a secret, and for the epoch of a boot that has not begun.
const MASK: &str = "****************";
const NEXT: &str = "<next>";

pub(super) async fn explain(
    Extract(control): Extract<Arc<Control>>,
    Path(machine): Path<String>,
    Query(options): Query<ExplainOptions>,
) -> Result<Json<Explanation>, Wrong> {
    let state = &control.state;
    let site = state.site.load_full();
    let (mac, id) = whose(&site, &machine)?;
    let entity = id.and_then(|id| site.model().get(id.kind.as_str(), id.name.as_str()));
    let entity = entity.map(|entity| entities::view(&site, entity, false));
    let Some(mac) = mac else {
        return Ok(Json(Explanation {
            mac,
            client: None,
            entity,
            cases: Vec::new(),
            disk: None,
            script: None,
            boot: None,
            path: None,
        }));
    };
    let known = state.address_of(mac);
    let askers = [
        ("BIOS firmware", Asker::supposed(mac, Stage::Firmware, Some(Firmware::Bios))),
        ("UEFI x64 firmware", Asker::supposed(mac, Stage::Firmware, Some(Firmware::UefiX64))),
        ("iPXE", state.visitor(mac)),
    ];
    let client = site.client_by_mac(mac).map(|client| Client::clone(client));
    let its = client.as_ref().and_then(|client| client.address).or(known);
    let mut cases = Vec::new();
    let mut boots = None;
    for Place { link, settings } in places(state, its) {
        for (asks, asker) in &askers {
            let plan = plan(asker, &link.interface, &site, settings);
            let mut case = case(link, settings, asks, &plan, known);
            if link.settings.mode == Mode::Proxy && asker.stage == Stage::Firmware && plan.may_boot() {
                case.why.extend(state.shapes.lock().advice(mac, link.interface.address));
            }
            cases.push(case);
            if let Some(client) = plan.client.as_ref().filter(|_| plan.may_boot()) {
                boots.get_or_insert_with(|| (link, plan.clone(), Arc::clone(client)));
            }
        }
    }
    let (disk, script) = match boots {
        Some((link, plan, client)) => {
            let first = Script::of(&plan);
            let image = first.image(&client, &site);
            let login = image.as_ref().map(|image| login_to_come(state, &client, image)).transpose()?;
            let disk = image.as_ref().zip(login.as_ref()).map(|(image, login)| ExplainedDisk {
                image: image.name.clone(),
                version: image.version.clone(),
                path: image.path.clone(),
                target: login.target.clone(),
                initiator: login.initiator.clone(),
                overlay_limit: overlay_limit(&state.config, &client).0,
            });
            let script = script(state, link, &client, &plan, &first, image.as_deref(), login.as_ref()).await;
            (disk, Some(script))
        }
        None => (None, None),
    };
    let path = if options.probe { Some(path(state, known.or(its)).await) } else { None };
    let boot = boots::last(&state.boots.lock(), mac);
    Ok(Json(Explanation { mac: Some(mac), client, entity, cases, disk, script, boot, path }))
}

/// Which packets reach that address.
async fn path(state: &State, address: Option<Ipv4Addr>) -> ExplainedPath {
    let Some(address) = address else {
        let text =
            "Its address is not known, so it can't be asked which packets reach it: switch it on first.";
        return ExplainedPath { address, report: None, text: text.to_owned() };
    };
    match state.pings.path(address).await {
        Ok(report) => {
            ExplainedPath { address: Some(address), report: Some(report), text: report.explain(address) }
        }
        Err(e) => {
            let text = format!(
                "It can't be asked which packets reach {address}: {e}; the log of bootd's start says more."
            );
            ExplainedPath { address: Some(address), report: None, text }
        }
    }
}

/// The machine's MAC, and its client, also one that is not served. It is named by either.
pub(super) fn whose(site: &Site, machine: &str) -> Result<(Option<MacAddr>, Option<EntityId>), Wrong> {
    let model = site.model();
    if let Ok(mac) = machine.parse::<MacAddr>() {
        let holder = model.holder(CLIENT_TYPE, "mac", &mac.to_string());
        return Ok((Some(mac), holder.map(|entity| entity.id().clone())));
    }
    // What looks like neither is told the rule of MACs.
    let name: ClientName = machine.parse().map_err(|_| match machine.parse::<MacAddr>() {
        Err(error) => Wrong::from(error),
        Ok(_) => {
            Wrong::not_found(format!("there is no client \"{machine}\""), "list them with: bootd client list")
        }
    })?;
    let entity = model.get(CLIENT_TYPE, name.as_str()).ok_or_else(|| {
        Wrong::not_found(format!("there is no client \"{name}\""), "list them with: bootd client list")
    })?;
    let mac = entity.get("mac").and_then(|values| values.first()?.parse().ok());
    Ok((mac, Some(entity.id().clone())))
}

/// A subnet where the machine may be.
struct Place<'a> {
    link: &'a Link,
    settings: &'a Settings,
}

/// Where a machine may be whose address is `its`, as far as that is known: the subnet behind a relay that has this address, or
/// else all of them, and each interface.
fn places(state: &State, its: Option<Ipv4Addr>) -> Vec<Place<'_>> {
    let is_there = move |settings: &&Settings| {
        its.zip(settings.subnet).is_some_and(|(address, subnet)| subnet.contains(address))
    };
    // Which interface a relay's requests come by, no setting says.
    let by = state.links.iter().find(|link| link.settings.mode != Mode::Off);
    let far = |all: bool| {
        let some = state.relayed.iter().filter(move |settings| all || is_there(settings));
        some.filter_map(move |settings| Some(Place { link: by?, settings }))
    };
    let near = state.links.iter().map(|link| Place { link, settings: &link.settings });
    match state.relayed.iter().find(is_there) {
        Some(_) => far(false).chain(near).collect(),
        None => near.chain(far(true)).collect(),
    }
}

fn case(link: &Link, settings: &Settings, asks: &str, plan: &BootPlan, known: Option<Ipv4Addr>) -> Case {
    let gives = link.settings.mode == Mode::Server;
    let subnet = settings.subnet_of(&link.interface);
    // What another server gives may lie behind a router.
    let known = known.filter(|address| plan.lease && (!gives || subnet.contains(*address)));
    let source = AddressSource::of([link.settings.mode]);
    Case {
        interface: match settings.subnet {
            Some(subnet) => format!("{subnet}, behind a relay"),
            None => link.interface.name.clone(),
        },
        asks: asks.to_owned(),
        address: plan.address.or(known),
        source: Some(source).filter(|_| plan.lease && plan.address.is_none()),
        boot_program: plan.boot_program.as_ref().map(|program| program.name.clone()),
        script_url: plan.script_url.clone(),
        why: plan.why.iter().map(ToString::to_string).collect(),
    }
}

/// The log-in of the boot to come, as far as it is known.
pub(super) fn login_to_come(state: &State, client: &Client, image: &Image) -> Result<Login, Wrong> {
    let wrong = |e: names::NameError| Wrong::invalid(e.to_string(), "choose shorter names");
    let site = &state.config.names;
    let target = names::target_iqn(site, &image.name, &client.name, 0).map_err(wrong)?;
    let stem = target.rsplit_once(':').map_or(target.as_str(), |(stem, _)| stem);
    let target = if state.config.engine.is_exported_by_kernel() {
        names::shared_target_iqn(site)
    } else {
        format!("{stem}:{NEXT}")
    };
    let initiator = names::initiator_iqn(site, &client.name).map_err(wrong)?;
    Ok(Login {
        mac: client.mac,
        epoch: 0,
        target,
        user: initiator.clone(),
        initiator,
        secret: MASK.to_owned(),
    })
}

async fn script(
    state: &Arc<State>,
    link: &Link,
    client: &Client,
    plan: &BootPlan,
    script: &Script,
    image: Option<&Image>,
    login: Option<&Login>,
) -> ExplainedScript {
    let firmware = state.firmwares.of(client.mac);
    let peer = stand_in(state, client, link);
    let disk =
        login.map(|login| texts::disk_facts(&state.config, link, login, peer, Some(login.secret.clone())));
    let facts = script.facts(&state.config, link, client, peer, firmware, plan, image, disk);
    let template = script.template(client);
    match texts::render(state, &state.site.load_full(), template.clone(), facts).await {
        Ok(made) => ExplainedScript { template, text: Some(made.text), error: None },
        Err(e) => ExplainedScript { template, text: None, error: Some(e.to_string()) },
    }
}

/// The address that the client would ask from; without a lease, one that stands for any in the subnet.
pub(super) fn stand_in(state: &State, client: &Client, link: &Link) -> Ipv4Addr {
    client.address.or_else(|| state.address_of(client.mac)).unwrap_or(link.interface.address)
}
