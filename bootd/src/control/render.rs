//! What a client would get for a name, and from which template. Nothing is leased, made or reset by asking.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State as Extract};
use netboot::BootPlan;
use serde::Deserialize;
use site::{Client, ClientName};

use super::Control;
use super::answer::Wrong;
use super::api::Rendering;
use super::explain::{login_to_come, stand_in};
use crate::scripts::Script;
use crate::state::{Link, State};
use crate::{managed, texts};

/// What a client's boot script is called, whatever its template.
const SCRIPT: &str = "script.ipxe";

/// What its menu is called.
const MENU: &str = "menu.ipxe";

/// What its choices' scripts are called begins so.
const CHOICES: &str = "choice/";

/// What is to be rendered, and for whom.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    file: String,
    client: String,
}

pub(super) async fn render(
    Extract(control): Extract<Arc<Control>>,
    Query(asked): Query<Asked>,
) -> Result<Json<Rendering>, Wrong> {
    let state = &control.state;
    let name: ClientName = asked.client.parse()?;
    let site = state.site.load_full();
    let client = site.client(&name).ok_or_else(|| {
        Wrong::not_found(format!("there is no client {name}"), "see what there is with: bootd client list")
    })?;
    let (link, plan) = place(state, client).ok_or_else(|| {
        Wrong::invalid("no interface is served", "start bootd with: bootd serve --interface NAME")
    })?;
    let firmware = state.firmwares.of(client.mac);
    let peer = stand_in(state, client, link);
    let script = script(&asked.file, client, &plan)?;
    let image = script.as_ref().and_then(|script| script.image(client, &site));
    let to_come = || image.as_ref().or(plan.image.as_ref()).map(|image| login_to_come(state, client, image));
    let login = match &script {
        // The boot to come, its secret masked; a boot that runs has been given its script.
        Some(_) => image.as_ref().map(|image| login_to_come(state, client, image)).transpose()?,
        None if plan.may_boot() => match state.targets.login_of(client.mac) {
            Some(running) => Some(running),
            None => to_come().transpose()?,
        },
        None => {
            let why: Vec<String> = plan.why.iter().map(ToString::to_string).collect();
            return Err(Wrong::invalid(
                why.join(" "),
                "a client that may not boot gets its boot script only",
            ));
        }
    };
    let is_script = script.is_some();
    let disk = login.map(|login| {
        let secret = is_script.then(|| login.secret.clone());
        texts::disk_facts(&state.config, link, &login, peer, secret)
    });
    let masked = disk.as_ref().is_some_and(|disk| disk.secret.is_some());
    let (template, facts) = match &script {
        Some(script) => {
            let config = &state.config;
            let image = image.as_deref();
            let facts = script.facts(config, link, client, peer, firmware, &plan, image, disk);
            (script.template(client), facts)
        }
        None => {
            let facts = texts::context(&state.config, link, client, peer, firmware, &plan, disk);
            (asked.file.clone(), facts)
        }
    };
    if !is_script
        && !state.menus.load().has(&template)
        && let Some(managed) = managed::managed(site.as_ref(), &facts, &template)?
    {
        let content = managed::made(state, &site, &facts, &managed).await?;
        let text = String::from_utf8(content).map_err(|_| {
            Wrong::invalid(format!("{} is no text", managed.source), "look at it where it lies")
        })?;
        let managed::Managed { instance, source: file, .. } = managed;
        let (shipped, masked) = (false, false);
        return Ok(Json(Rendering { client: name, name: template, file, instance, shipped, masked, text }));
    }
    let made = texts::render(state, &site, template.clone(), facts).await?;
    Ok(Json(Rendering {
        client: name,
        name: template,
        file: made.found.file,
        instance: made.found.instance,
        shipped: made.found.shipped,
        masked,
        text: made.text,
    }))
}

/// Which of the client's scripts that name stands for; `None`: it is another text.
fn script(file: &str, client: &Client, plan: &BootPlan) -> Result<Option<Script>, Wrong> {
    let first = Script::of(plan);
    if file == SCRIPT || file == first.template(client) {
        return Ok(Some(first));
    }
    if file == MENU {
        return Ok(Some(Script::Menu).filter(|_| !plan.offer.shown().is_empty()));
    }
    let Some(name) = file.strip_prefix(CHOICES) else { return Ok(None) };
    let name = name.strip_suffix(".ipxe").unwrap_or(name);
    match plan.choice(name) {
        Some(choice) => Ok(Some(Script::Choice(Arc::clone(choice)))),
        None => Err(Wrong::not_found(
            format!("the choice {name} is not offered to {}", client.name),
            format!("see what is with: bootd explain {}", client.name),
        )),
    }
}

/// Where the client is, as far as that is known: the interface with its address, else the first that it may boot
/// on, else the first.
fn place<'a>(state: &'a State, client: &Client) -> Option<(&'a Link, BootPlan)> {
    let site = state.site.load_full();
    let plans = state
        .links
        .iter()
        .map(|link| (link, state.plan_at(&site, link, stand_in(state, client, link), client.mac)));
    plans.min_by_key(|(link, plan)| {
        let its = link.interface.contains(stand_in(state, client, link)) && client.address.is_some();
        (!its, !plan.may_boot())
    })
}
