//! Managed files: what the site wants in the files of diskless Linux clients, made for the client that asks.
//!
//! An entity of type `file` says where the file is kept, whose it is, and what is run after it changed; its table
//! `instances` says from which source it is made for whom, and the most specific instance counts
//! ([`menus::Machine::instances`]). A source is a template, which is rendered for the client, or else a file of any kind
//! beside the templates or among the boot files, which is taken as it is.
//!
//! A client is given the list, with each content's SHA-256, and fetches what differs. Its program is a shell script
//! that is served as well; the list's format is described there.

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::sync::Arc;

use menus::{ConfigView, Context, Machine, Menus};
use sha2::{Digest as _, Sha256};
use site::{MacAddr, Site};
use tokio::task::spawn_blocking;

use crate::boot::ScriptError;
use crate::serve::files::{FileError, open_beneath};
use crate::state::{Link, State};
use crate::texts;

/// The program with which clients keep their files.
pub(crate) const PROGRAM: &str = include_str!("../../clients/bootd-files.sh");

/// The most files that are kept on one client. With more, it gets no list and an error.
const MAX_FILES: usize = 1000;

/// The longest content, in bytes. A longer one is an error for that file. Rendered ones are bounded by `menus`.
const MAX_CONTENT: u64 = 4 << 20;

/// The longest path, in bytes: Linux knows no longer one.
const MAX_PATH: usize = 4095;

const FILE_TYPE: &str = "file";

/// One file that is kept on a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Managed {
    /// Its entity's name.
    pub(crate) name: String,
    /// Which instance the client gets.
    pub(crate) instance: String,
    /// What that is made from.
    pub(crate) source: String,
    path: String,
    owner: Option<String>,
    mode: String,
    script: Option<String>,
}

/// The list of the files that are kept on the client `mac`, which asked from `peer` by `link` and was admitted there.
/// A file that can't be made is in the list with the reason; the others don't wait for it.
///
/// # Errors
/// When the client may have none, or there are too many.
pub(crate) async fn list(
    state: &Arc<State>,
    link: &Link,
    mac: MacAddr,
    peer: Ipv4Addr,
) -> Result<String, ScriptError> {
    let site = state.site.load_full();
    let facts = texts::facts(state, &site, link, mac, peer)?;
    let view: &dyn ConfigView = site.as_ref();
    let names = view.entities(FILE_TYPE);
    if names.len() > MAX_FILES {
        let reason = format!("{} files are more than one client may have ({MAX_FILES})", names.len());
        return Err(ScriptError::ManagedFile { file: "list".to_owned(), reason });
    }
    let (mut lines, mut count) = (String::new(), 0);
    for name in names {
        let line = match managed(view, &facts, name) {
            Ok(None) => continue,
            Ok(Some(managed)) => {
                made(state, &site, &facts, &managed).await.map(|content| line(&managed, &content))
            }
            Err(e) => Err(e),
        };
        match line {
            Ok(line) => {
                count += 1;
                lines.push_str(&line);
            }
            Err(e) => {
                let why = e.to_string().replace(|c: char| c.is_control(), " ");
                lines.push_str(&format!("failed\t{name}\t{why}\n"));
                state.events.emit(crate::events::Event::Trouble { service: "http", what: why });
            }
        }
    }
    Ok(format!("{lines}end\t{count}\n"))
}

/// The content of the file `name` for that client.
///
/// # Errors
/// When there is none for it, or it can't be made.
pub(crate) async fn content(
    state: &Arc<State>,
    link: &Link,
    mac: MacAddr,
    peer: Ipv4Addr,
    name: &str,
) -> Result<Vec<u8>, ScriptError> {
    let site = state.site.load_full();
    let facts = texts::facts(state, &site, link, mac, peer)?;
    let managed = managed(site.as_ref(), &facts, name)?;
    let managed = managed.ok_or_else(|| ScriptError::NoSuchFile(name.escape_default().to_string()))?;
    made(state, &site, &facts, &managed).await
}

/// The file `name` as it is for the client of `facts`; `None`: it has no such file.
///
/// # Errors
/// When the entity says what makes no sense.
pub(crate) fn managed(
    view: &dyn ConfigView,
    facts: &Context,
    name: &str,
) -> Result<Option<Managed>, ScriptError> {
    let value = |variable| view.values(FILE_TYPE, name, variable).first().map(|value| (*value).to_owned());
    let Some(client) = facts.client.name.as_ref() else { return Ok(None) };
    let machine = Machine::client(client.as_str(), name, &facts.server.name, view);
    let rows = view.rows(FILE_TYPE, name, "instances");
    let column = |row: &menus::Row<'_>, wanted| {
        row.iter().find(|(column, _)| *column == wanted).map(|(_, value)| (*value).to_owned())
    };
    let instances: Vec<(String, String)> =
        rows.iter().filter_map(|row| Some((column(row, "instance")?, column(row, "source")?))).collect();
    let there: Vec<&str> = instances.iter().map(|(instance, _)| instance.as_str()).collect();
    let chosen = machine.choose(&there).map(str::to_owned);
    let (Some(chosen), Some(path)) = (chosen, value("path")) else { return Ok(None) };
    let source = instances.iter().find(|(instance, _)| *instance == chosen).map(|(_, source)| source.clone());
    let mode = value("mode").unwrap_or_else(|| "644".to_owned());
    let managed = Managed {
        name: name.to_owned(),
        instance: chosen,
        source: source.unwrap_or_default(),
        path,
        owner: value("owner"),
        mode: u32::from_str_radix(&mode, 8).map_or(mode, |mode| format!("{mode:o}")),
        script: value("script"),
    };
    match objection(&managed) {
        None => Ok(Some(managed)),
        Some(reason) => Err(ScriptError::ManagedFile { file: name.to_owned(), reason }),
    }
}

/// What is wrong with what the entity says: the definitions see to most of it, but a client's root runs by this.
fn objection(managed: &Managed) -> Option<String> {
    let Managed { path, owner, mode, script, .. } = managed;
    let is_path = |path: &str| {
        let mut parts = path.split('/');
        parts.next() == Some("")
            && path.len() <= MAX_PATH
            && parts.all(|part| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control))
    };
    let is_owner = |owner: &String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':');
        owner.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && owner.chars().all(plain)
    };
    if !is_path(path) {
        return Some(format!(
            "{path:?} is not the absolute path of a file, without \"..\" and control characters"
        ));
    }
    if let Some(script) = script.as_ref().filter(|script| !is_path(script)) {
        return Some(format!("the script {script:?} is not the absolute path of a file"));
    }
    if let Some(owner) = owner.as_ref().filter(|owner| !is_owner(owner)) {
        return Some(format!("{owner:?} is no owner; write, for example, root:root"));
    }
    let octal = mode.len() <= 4 && mode.chars().all(|c| c.is_digit(8)) && !mode.is_empty();
    (!octal).then(|| format!("{mode:?} are no permissions; write, for example, 0644"))
}

fn line(managed: &Managed, content: &[u8]) -> String {
    let Managed { name, path, owner, mode, script, .. } = managed;
    let digest: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    let or_dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let fields = [name.clone(), digest, or_dash(owner), mode.clone(), path.clone(), or_dash(script)];
    format!("file\t{}\n", fields.join("\t"))
}

/// The file's content for the client of `facts`.
///
/// # Errors
/// When it can't be made.
pub(crate) async fn made(
    state: &Arc<State>,
    site: &Arc<Site>,
    facts: &Context,
    managed: &Managed,
) -> Result<Vec<u8>, ScriptError> {
    let source = managed.source.clone();
    if state.menus.load().has(&source) {
        return Ok(texts::render(state, site, source, facts.clone()).await?.text.into_bytes());
    }
    let file = managed.name.clone();
    let places = [state.config.menus(), state.config.files()];
    let read = move || {
        let [menus, files] = &places;
        let wrong = |reason: String| ScriptError::ManagedFile { file: file.clone(), reason };
        for place in &places {
            let mut opened = match open_beneath(place, &source) {
                Err(FileError::NotFound) => continue,
                opened => opened.map_err(|e| wrong(e.to_string()))?,
            };
            if opened.len > MAX_CONTENT {
                return Err(wrong(format!("{source} has {} bytes, {MAX_CONTENT} are allowed", opened.len)));
            }
            let mut content = Vec::new();
            let read = opened.file.by_ref().take(MAX_CONTENT).read_to_end(&mut content);
            read.map_err(|e| wrong(format!("can't read {source}: {e}")))?;
            // Templates are looked for once a second. What such a one makes is wanted, and not what it is made of.
            if place == menus && str::from_utf8(&content).is_ok_and(|text| Menus::is_template(&source, text))
            {
                return Err(wrong(format!(
                    "the template {source} is not in force yet; it is within a second, or the log says what is wrong with it"
                )));
            }
            return Ok(content);
        }
        let places = format!("{} and {}", menus.display(), files.display());
        Err(wrong(format!("there is no template or file {source} in {places}")))
    };
    spawn_blocking(read).await?
}

#[cfg(test)]
mod tests;
