//! What clients boot the next time, and only then: set for one, for a room, for all that an expression finds.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;
use netboot::image_of;
use site::entity::{BOOT_ONCE, CHOICE_TYPE, CLIENT_TYPE, Edit, EntityId, EntityName, GROUP_TYPE, Values};
use site::{Choice, ChoiceKind, Client, ClientName, Edited, Site};
use tokio::task::spawn_blocking;

use super::Control;
use super::answer::{Body, Wrong};
use super::api::{self, BootOnce, Whom};
use super::clients;
use super::entities::who::By;

/// Sets or clears it, for all of them or none, and says who they are.
pub(super) async fn set(
    Extract(control): Extract<Arc<Control>>,
    By(author): By,
    Body(request): Body<BootOnce>,
) -> Result<Json<api::Edit<Vec<ClientName>>>, Wrong> {
    spawn_blocking(move || {
        let site = control.state.site.load_full();
        let clients = whom(&control, &site, &request.whom)?;
        let choice = request.choice.as_ref().map(|name| choice(&site, name)).transpose()?;
        if let Some(choice) = choice {
            clients.iter().try_for_each(|client| suits(choice, client, &site))?;
        }
        let values = request.choice.as_ref().map(|name| Values::one(name.as_str())).unwrap_or_default();
        let edits = clients.iter().map(|client| {
            let entity = EntityId::new(CLIENT_TYPE.parse()?, client.name.as_str().parse()?);
            Ok(Edit::Set { entity, variable: BOOT_ONCE.parse()?, values: values.clone(), expect: None })
        });
        let edits = edits.collect::<Result<Vec<_>, site::NameError>>()?;
        let (edited, _) = control.store.edit(&edits, &author)?;
        control.refresh()?;
        let (changed, revision) = match edited {
            Edited::Changed { revision } => (true, revision),
            Edited::Already { revision } => (false, revision),
        };
        let value = clients.into_iter().map(|client| client.name).collect();
        Ok(Json(api::Edit { changed, revision, value }))
    })
    .await?
}

/// The clients that are meant; at least one.
fn whom(control: &Control, site: &Site, whom: &Whom) -> Result<Vec<Client>, Wrong> {
    let model = site.model();
    let served = |id: &EntityId| {
        let is_client = id.kind.as_str() == CLIENT_TYPE;
        let name = id.name.as_str().parse().ok().filter(|_| is_client)?;
        site.client(&name).map(|client| Client::clone(client))
    };
    let (found, what): (Vec<Client>, String) = match whom {
        Whom::Client(name) => return Ok(vec![clients::find(&control.state, name)?]),
        Whom::Group(group) => {
            if model.get(GROUP_TYPE, group.as_str()).is_none() {
                let hint = "list them with: bootd site list group";
                return Err(Wrong::not_found(format!("there is no group {group}"), hint));
            }
            (site.members(group.as_str()).filter_map(served).collect(), format!("in group {group}"))
        }
        Whom::Where(expression) => {
            let found = model.search(expression).into_iter().filter_map(|entity| served(entity.id()));
            (found.collect(), "for which that holds".to_owned())
        }
    };
    if found.is_empty() {
        return Err(Wrong::not_found(
            format!("there is no client {what}"),
            "list all with: bootd client list",
        ));
    }
    Ok(found)
}

/// The choice of that name; it need not be offered to anyone, for an admin may boot what users may not choose.
fn choice<'a>(site: &'a Site, name: &EntityName) -> Result<&'a Choice, Wrong> {
    let Some(choice) = site.choice(name) else {
        let all: Vec<_> =
            site.model().entities(CHOICE_TYPE).map(|entity| entity.id().name.as_str()).collect();
        let there = if all.is_empty() {
            "there are none yet".to_owned()
        } else {
            format!("there are: {}", all.join(", "))
        };
        let inactive = site
            .inactive()
            .find(|inactive| inactive.entity.kind.as_str() == CHOICE_TYPE && inactive.entity.name == *name);
        return Err(match inactive {
            Some(inactive) => Wrong::invalid(
                inactive.to_string(),
                format!("set what it lacks with: bootd site set choice/{name} VARIABLE=VALUE"),
            ),
            None => Wrong::not_found(format!("there is no choice {name}"), there),
        });
    };
    if choice.kind == ChoiceKind::Menu {
        let error = format!("the choice {name} is a menu, which boots nothing by itself");
        return Err(Wrong::invalid(error, "name one of the choices in it"));
    }
    Ok(choice)
}

/// Refuses what could not be booted.
fn suits(choice: &Choice, client: &Client, site: &Site) -> Result<(), Wrong> {
    if choice.makes_disk() && image_of(choice, client, site).is_none() {
        let error = format!(
            "{} can't boot {}: neither of them names an image that there is",
            client.name, choice.name
        );
        let hint = format!("give one of them an image: bootd site set choice/{} image=NAME", choice.name);
        return Err(Wrong::invalid(error, hint));
    }
    Ok(())
}
