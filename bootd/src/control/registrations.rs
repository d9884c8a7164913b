//! Machines that wait to be registered: an admin's yes or no.

use std::io;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};
use hyper::StatusCode;
use netboot::Registration;
use site::entity::{CLIENT_TYPE, Edit, EntityId, EntityName, Format, GROUPS, Values};
use site::{Client, MacAddr, NameError};
use tokio::task::spawn_blocking;

use super::Control;
use super::answer::{Body, Wrong, edit};
use super::api::{self, Approval, Rejection};
use super::clients;
use super::entities::who::By;

type App = Extract<Arc<Control>>;

pub(super) async fn list(Extract(control): App) -> Json<Vec<Registration>> {
    Json(control.state.registrations.all().iter().cloned().collect())
}

/// Makes a machine a client, as it asked or as the admin says. Its waiting script goes on by itself.
pub(super) async fn approve(
    Extract(control): App,
    Path(mac): Path<String>,
    By(author): By,
    Body(approval): Body<Approval>,
) -> Result<Json<api::Edit<Client>>, Wrong> {
    let mac: MacAddr = mac.parse()?;
    spawn_blocking(move || {
        let all = control.state.registrations.all();
        let registration = all.get(mac).ok_or_else(|| nobody(mac))?;
        let name = approval.name.unwrap_or_else(|| registration.form.name.clone());
        let group = approval.group.or_else(|| registration.form.group.clone());
        let edits = client_edits(
            &control,
            registration,
            name.as_str(),
            group.as_ref().map(EntityName::as_str),
            &approval.image,
        )?;
        let (edited, _) = control.store.edit(&edits, &author)?;
        control.refresh()?;
        // The machine is a client now, whatever becomes of the file.
        forget_one(&control, mac)?;
        Ok(edit(edited, clients::find(&control.state, &name)?))
    })
    .await?
}

/// Says no. The machine is told why, and may ask again.
pub(super) async fn reject(
    Extract(control): App,
    Path(mac): Path<String>,
    Body(rejection): Body<Rejection>,
) -> Result<Json<()>, Wrong> {
    let mac: MacAddr = mac.parse()?;
    let why: String = rejection.why.chars().filter(|c| !c.is_control()).take(200).collect();
    spawn_blocking(move || {
        let found = control.state.registrations.change(|all| Ok::<_, io::Error>(all.reject(mac, &why)));
        if found.map_err(|e| unkept(&e))? { Ok(Json(())) } else { Err(nobody(mac)) }
    })
    .await?
}

/// Forgets a machine, as if nobody had typed anything there.
pub(super) async fn forget(Extract(control): App, Path(mac): Path<String>) -> Result<Json<()>, Wrong> {
    let mac: MacAddr = mac.parse()?;
    spawn_blocking(move || if forget_one(&control, mac)? { Ok(Json(())) } else { Err(nobody(mac)) }).await?
}

fn forget_one(control: &Control, mac: MacAddr) -> Result<bool, Wrong> {
    let removed = control.state.registrations.change(|all| Ok::<_, io::Error>(all.remove(mac).is_some()));
    removed.map_err(|e| unkept(&e))
}

/// What boards say whose maker gave them no UUID: these, or one digit all through.
const NO_UUIDS: &[&str] = &["03000200-0400-0500-0006-000700080009", "00020003-0004-0005-0006-000700080009"];

/// Whether a machine can be known by that.
fn is_its_own(uuid: &str) -> bool {
    let digits = || uuid.chars().filter(|digit| *digit != '-');
    !NO_UUIDS.contains(&uuid) && digits().any(|digit| Some(digit) != digits().next())
}

/// The client that a machine becomes. Its UUID goes with it if that is one and nobody else has it: cheap boards share
/// theirs.
fn client_edits(
    control: &Control,
    registration: &Registration,
    name: &str,
    group: Option<&str>,
    image: &Option<site::ImageName>,
) -> Result<Vec<Edit>, NameError> {
    let entity = EntityId::new(CLIENT_TYPE.parse()?, name.parse()?);
    let site = control.state.site.load();
    let uuid = Format::Uuid.canonical(&registration.form.uuid).ok();
    let uuid = uuid.filter(|uuid| is_its_own(uuid));
    let uuid = uuid.filter(|uuid| site.model().holder(CLIENT_TYPE, "uuid", uuid).is_none());
    let variables = [
        ("mac", Some(registration.mac.to_string())),
        ("uuid", uuid.map(Into::into)),
        (GROUPS, group.map(str::to_owned)),
        ("image", image.as_ref().map(ToString::to_string)),
    ];
    let mut edits = vec![Edit::Create { entity: entity.clone() }];
    for (variable, value) in variables {
        if let Some(value) = value {
            let (variable, values) = (variable.parse()?, Values::one(value));
            edits.push(Edit::Set { entity: entity.clone(), variable, values, expect: None });
        }
    }
    Ok(edits)
}

fn nobody(mac: MacAddr) -> Wrong {
    Wrong::not_found(
        format!("{mac} has not asked to be registered"),
        "list who has with: bootd register list",
    )
}

fn unkept(error: &io::Error) -> Wrong {
    let hint = "check that the data directory's disk is neither full nor read-only".to_owned();
    Wrong::new(StatusCode::SERVICE_UNAVAILABLE, format!("it can't be kept: {error}"), Some(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_boards_have_is_no_uuid_of_a_machine() {
        assert!(is_its_own("4c4c4544-0042-3510-8052-b4c04f4e3732"));
        for shared in ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"] {
            assert!(!is_its_own(shared), "{shared}");
        }
        assert!(NO_UUIDS.iter().all(|shared| !is_its_own(shared)));
    }
}
