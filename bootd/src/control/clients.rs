//! Clients.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};
use netboot::Mode;
use site::{Client, ClientChange, ClientName, Site};
use tokio::task::spawn_blocking;

use super::Control;
use super::answer::{Body, Wrong, edit};
use super::api::{ClientView, Edit};
use super::entities::who::By;
use crate::state::{Link, State};

type App = Extract<Arc<Control>>;

pub(super) async fn list(Extract(control): App) -> Json<Vec<ClientView>> {
    let site = control.state.site.load();
    Json(
        site.clients().into_iter().map(|client| view(&control.state, &site, Client::clone(client))).collect(),
    )
}

pub(super) async fn show(Extract(control): App, Path(name): Path<String>) -> Result<Json<ClientView>, Wrong> {
    let client = find(&control.state, &name.parse()?)?;
    Ok(Json(view(&control.state, &control.state.site.load(), client)))
}

fn view(state: &State, site: &Site, client: Client) -> ClientView {
    ClientView {
        boot_once: site.menu(&client.name).once,
        leased: state.leased(client.mac),
        seen: state.whereabouts.of(client.mac),
        source: state.address_source(),
        client,
    }
}

pub(super) async fn add(
    Extract(control): App,
    By(author): By,
    Body(client): Body<Client>,
) -> Result<Json<Edit<Client>>, Wrong> {
    let change = ClientChange {
        address: Some(client.address),
        menu: Some(client.menu.clone()),
        boot_program: Some(client.boot_program.clone()),
        ..ClientChange::default()
    };
    check(&control.state, &change)?;
    spawn_blocking(move || {
        let edited = control.store.add_client(&client, &author)?;
        control.refresh()?;
        Ok(edit(edited, client))
    })
    .await?
}

pub(super) async fn set(
    Extract(control): App,
    Path(name): Path<String>,
    By(author): By,
    Body(change): Body<ClientChange>,
) -> Result<Json<Edit<Client>>, Wrong> {
    let name: ClientName = name.parse()?;
    check(&control.state, &change)?;
    spawn_blocking(move || {
        let (client, edited) = control.store.set_client(&name, &change, &author)?;
        control.refresh()?;
        Ok(edit(edited, client))
    })
    .await?
}

/// Removes a client. Its disk goes with it: nobody would ever reset it, and its space would be lost.
pub(super) async fn remove(
    Extract(control): App,
    Path(name): Path<String>,
    By(author): By,
) -> Result<Json<Edit<Client>>, Wrong> {
    let name: ClientName = name.parse()?;
    spawn_blocking(move || {
        let (client, edited) = control.store.remove_client(&name, &author)?;
        control.refresh()?;
        forget(&control, &client)?;
        Ok(edit(edited, client))
    })
    .await?
}

/// Removes what a client had that is one no more, and that the site in force knows no more. Blocks.
pub(super) fn forget(control: &Control, client: &Client) -> Result<(), Wrong> {
    // A script that is in the making knows the client still. Its disk goes, too.
    let _turn = control.state.script_turns.of(client.mac).blocking_lock();
    control.state.firmwares.forget(client.mac);
    control.state.whereabouts.forget(client.mac);
    control.state.targets.close(client.name.as_str());
    for disk in control.state.engine.list() {
        if disk.request.client == client.name.as_str() {
            control.state.engine.detach(&disk.request.client, disk.request.epoch)?;
        }
    }
    Ok(())
}

/// The client of that name in the site in force.
pub(super) fn find(state: &State, name: &ClientName) -> Result<Client, Wrong> {
    let site = state.site.load();
    if let Some(client) = site.client(name) {
        return Ok(Client::clone(client));
    }
    Err(match site.model().client(name.as_str()) {
        Some(Err(inactive)) => Wrong::invalid(
            format!("client \"{name}\" is inactive: {}", inactive.reason),
            format!(
                "see it with: bootd site show client/{name}; set what it lacks with: bootd site set client/{name} VARIABLE=VALUE"
            ),
        ),
        _ => Wrong::not_found(format!("there is no client \"{name}\""), "list them with: bootd client list"),
    })
}

/// Refuses what the database can't know to be wrong: files that are not there, addresses that are not served.
fn check(state: &State, change: &ClientChange) -> Result<(), Wrong> {
    if let Some(Some(menu)) = &change.menu {
        let menus = state.menus.load();
        let names = menus.names();
        if !names.iter().any(|name| *name == menu || name.strip_suffix(".tera") == Some(menu)) {
            let hint =
                format!("put it into {}; there are: {}", state.config.menus().display(), names.join(", "));
            return Err(Wrong::invalid(format!("there is no template \"{menu}\""), hint));
        }
    }
    if let Some(Some(program)) = &change.boot_program {
        state.files.look_again();
        let programs = state.files.programs().all();
        // A bare name stands for the program of that name for the machine's architecture.
        let is = |there: &String| {
            there == program || there.rsplit_once('/').is_some_and(|(_, bare)| bare == program)
        };
        if !programs.iter().any(is) {
            let hint = format!(
                "take it in with: bootd bootprogram add FILE, or put it into {}; there are: {}",
                state.config.files().display(),
                programs.join(", ")
            );
            return Err(Wrong::invalid(format!("there is no boot program \"{program}\""), hint));
        }
    }
    match change.address {
        Some(Some(address)) => served(state, address),
        _ => Ok(()),
    }
}

fn served(state: &State, address: Ipv4Addr) -> Result<(), Wrong> {
    let on_a_link = state.links.iter().any(|link| link.interface.can_have(address));
    let mut relayed = state.relayed.iter().filter_map(|settings| settings.subnet);
    // Where another server gives the addresses, only its administrator knows which lie behind the routers.
    let is_others = |link: &Link| link.settings.mode != Mode::Server && !link.interface.contains(address);
    if on_a_link
        || relayed.clone().any(|subnet| subnet.can_have(address))
        || state.links.iter().any(is_others)
    {
        return Ok(());
    }
    let of_link = |link: &Link| {
        let interface = &link.interface;
        format!("{}/{} ({})", interface.address, interface.prefix_len, interface.name)
    };
    let links = state.links.iter().map(of_link);
    let subnets: Vec<String> = links.chain(relayed.by_ref().map(|subnet| subnet.to_string())).collect();
    let error = format!("no client can have the address {address} here");
    let remedy = format!(
        "choose one in the subnet of {}, not ours; a subnet behind a relay needs a table [dhcp.subnet.\"NETWORK/BITS\"] \
         in bootd.toml",
        subnets.join(" or ")
    );
    Err(Wrong::invalid(error, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn an_entry_may_name_what_its_client_can_have_where_it_is() {
        let place = tempfile::tempdir().unwrap();
        let (state, _store, _told) = testing::state(place.path());
        let mut state = Arc::into_inner(state).unwrap();
        let may = |state: &State, address: [u8; 4]| served(state, address.into()).is_ok();
        assert!(may(&state, [10, 0, 0, 7]) && !may(&state, [10, 0, 0, 1]) && !may(&state, [10, 9, 0, 7]));
        let subnet = Some("10.9.0.0/24".parse().unwrap());
        state.relayed = vec![netboot::Settings { subnet, ..netboot::Settings::default() }];
        assert!(may(&state, [10, 9, 0, 7]) && !may(&state, [10, 9, 0, 0]) && !may(&state, [10, 8, 0, 7]));
        state.relayed.clear();
        state.links[0].settings.mode = Mode::Proxy;
        assert!(may(&state, [10, 8, 0, 7]) && !may(&state, [10, 0, 0, 1]) && !may(&state, [10, 0, 0, 255]));
    }
}
