//! `bootd client`.

use hyper::Method;
use site::entity::{EntityName, Expression};
use site::{Client, ClientChange, ClientName, NameError};

use super::args::{Changes, ClientCommand, Common, OrNone};
use super::daemon::{Daemon, NOTHING};
use super::table::{facts, table};
use super::when::whereabouts;
use super::{Failure, NO_CLIENTS, or_dash, print, show};
use crate::config::show_size;
use crate::control::api::{BootOnce, ClientView, Edit, Whom};

pub(super) async fn run(command: ClientCommand) -> Result<(), Failure> {
    match command {
        ClientCommand::Add {
            name,
            mac,
            image,
            address,
            menu,
            boot_program,
            overlay_limit,
            disabled,
            common,
        } => {
            let enabled = !disabled;
            let client = Client { name, mac, address, image, menu, boot_program, overlay_limit, enabled };
            let edit: Edit<Client> = daemon(&common)?.call(Method::POST, "/clients", Some(&client)).await?;
            report(&common, &edit, "added", "was there already")
        }
        ClientCommand::List { common } => {
            let clients: Vec<ClientView> = daemon(&common)?.get("/clients").await?;
            show(common.json, &clients, |clients| list(clients))
        }
        ClientCommand::Show { name, common } => {
            let client: ClientView = daemon(&common)?.get(&format!("/clients/{name}")).await?;
            show(common.json, &client, describe)
        }
        ClientCommand::Set { name, set, common } => {
            let path = format!("/clients/{name}");
            let edit: Edit<Client> = daemon(&common)?.call(Method::PATCH, &path, Some(&change(set))).await?;
            report(&common, &edit, "changed, from its next boot on", "was so already")
        }
        ClientCommand::BootOnce { words, group, filter, clear, common } => {
            let request = boot_once(words, group, filter, clear)?;
            let edit: Edit<Vec<ClientName>> =
                daemon(&common)?.call(Method::POST, "/boot-once", Some(&request)).await?;
            show(common.json, &edit, |edit| once(edit, request.choice.as_ref()))
        }
        ClientCommand::Remove { name, common } => {
            let path = format!("/clients/{name}");
            let edit: Edit<Client> = daemon(&common)?.call(Method::DELETE, &path, NOTHING).await?;
            report(&common, &edit, "removed", "was not there")
        }
    }
}

fn daemon(common: &Common) -> Result<Daemon, Failure> {
    Daemon::of(&common.place.flags())
}

fn report(common: &Common, edit: &Edit<Client>, changed: &str, already: &str) -> Result<(), Failure> {
    if common.json {
        return show(true, edit, |_| String::new());
    }
    print(&format!("client {} {}\n", edit.value.name, if edit.changed { changed } else { already }))
}

/// What the words of `boot-once` mean.
fn boot_once(
    words: Vec<String>,
    group: Option<EntityName>,
    filter: Option<Expression>,
    clear: bool,
) -> Result<BootOnce, Failure> {
    let usage = || {
        let error = "say which client, or which clients, and what they boot once".to_owned();
        let hint = "bootd client boot-once CLIENT CHOICE, or --group NAME CHOICE, or CLIENT --clear";
        Failure { error, hint: Some(hint.to_owned()) }
    };
    let wrong = |e: NameError| Failure::new(e.to_string());
    let mut words = words.into_iter();
    let whom = match (group, filter) {
        (Some(group), _) => Whom::Group(group),
        (None, Some(filter)) => Whom::Where(filter),
        (None, None) => Whom::Client(words.next().ok_or_else(usage)?.parse().map_err(wrong)?),
    };
    let choice = words.next().map(|name| name.parse().map_err(wrong)).transpose()?;
    if choice.is_none() != clear || words.next().is_some() {
        return Err(usage());
    }
    Ok(BootOnce { whom, choice })
}

fn once(edit: &Edit<Vec<ClientName>>, choice: Option<&EntityName>) -> String {
    let names: Vec<_> = edit.value.iter().map(ClientName::as_str).collect();
    let (who, verb) = match names.as_slice() {
        [one] => (format!("client {one}"), "boots"),
        many => (format!("{} clients ({})", many.len(), many.join(", ")), "boot"),
    };
    let what = match (choice, edit.changed) {
        (Some(choice), true) => format!("{verb} {choice} the next time, and only then"),
        (Some(choice), false) => format!("{verb} {choice} the next time already"),
        (None, true) => format!("{verb} as usual again"),
        (None, false) => format!("{verb} as usual already"),
    };
    format!("{who} {what}\n")
}

fn change(set: Changes) -> ClientChange {
    fn value<T>(set: Option<OrNone<T>>) -> Option<Option<T>> {
        set.map(|OrNone(value)| value)
    }
    ClientChange {
        mac: set.mac,
        address: value(set.address),
        image: value(set.image),
        menu: value(set.menu),
        boot_program: value(set.boot_program),
        overlay_limit: value(set.overlay_limit),
        enabled: (set.enable || set.disable).then_some(set.enable),
    }
}

fn list(clients: &[ClientView]) -> String {
    if clients.is_empty() {
        return NO_CLIENTS.to_owned();
    }
    let row = |ClientView { client, boot_once, source, .. }: &ClientView| {
        [
            client.name.to_string(),
            client.mac.to_string(),
            client.address.map_or_else(|| source.to_string(), |address| address.to_string()),
            or_dash(client.image.as_ref()),
            or_dash(boot_once.as_ref()),
            if client.enabled { "yes" } else { "no" }.to_owned(),
        ]
    };
    table(
        ["NAME", "MAC", "ADDRESS", "IMAGE", "ONCE", "ENABLED"],
        &clients.iter().map(row).collect::<Vec<_>>(),
    )
}

fn describe(ClientView { client, boot_once, leased, seen, source }: &ClientView) -> String {
    let or = |value: Option<String>, default: &str| value.unwrap_or_else(|| default.to_owned());
    facts(&[
        ("name", client.name.to_string()),
        ("MAC", client.mac.to_string()),
        ("address", or(client.address.map(|a| a.to_string()), &source.to_string())),
        ("is at", whereabouts(*leased, seen.as_ref())),
        ("image", or(client.image.as_ref().map(ToString::to_string), "none: it gets an address only")),
        ("boots once", or(boot_once.as_ref().map(ToString::to_string), "nothing else the next time")),
        ("menu", or(client.menu.clone(), "the site's")),
        ("boot program", or(client.boot_program.clone(), "the usual one for its firmware")),
        ("overlay limit", or(client.overlay_limit.map(show_size), "the site's")),
        ("enabled", if client.enabled { "yes" } else { "no" }.to_owned()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_typed_is_changed() {
        let set = Changes {
            mac: None,
            image: Some(OrNone(None)),
            address: None,
            menu: None,
            boot_program: None,
            overlay_limit: None,
            enable: false,
            disable: true,
        };
        let json = serde_json::to_value(change(set)).unwrap();
        assert_eq!(json, serde_json::json!({ "image": null, "enabled": false }));
    }
}
