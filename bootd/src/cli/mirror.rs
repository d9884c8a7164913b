//! `bootd mirror`.

use hyper::Method;

use super::args::{Common, MirrorCommand};
use super::daemon::{Daemon, NOTHING};
use super::progress::Progress;
use super::table::table;
use super::when::moment;
use super::{Failure, show};
use crate::config::show_size;
use crate::control::api::{FetchLine, FetchRequest, MirrorList, StoredFile};

pub(super) async fn run(command: MirrorCommand) -> Result<(), Failure> {
    match command {
        MirrorCommand::List { name: None, common } => {
            let list: MirrorList = daemon(&common)?.get("/mirrors").await?;
            show(common.json, &list, mirrors)
        }
        MirrorCommand::List { name: Some(name), common } => {
            let stored: Vec<StoredFile> = daemon(&common)?.get(&format!("/mirrors/{name}")).await?;
            show(common.json, &stored, |stored| files(stored))
        }
        MirrorCommand::Fetch { name, paths, common } => {
            let mut fetched = Vec::new();
            for path in paths {
                fetched.push(fetch(FetchRequest { mirror: name.to_string(), path }, &common).await?);
            }
            if common.json { show(true, &fetched, |_| String::new()) } else { Ok(()) }
        }
        MirrorCommand::Drop { name, path, common } => {
            let query = path.map_or_else(String::new, |path| format!("?path={}", escape(&path)));
            let at = format!("/mirrors/{name}{query}");
            let gone: Vec<StoredFile> = daemon(&common)?.call(Method::DELETE, &at, NOTHING).await?;
            show(common.json, &gone, |gone| {
                let bytes = gone.iter().map(|file| file.size).sum();
                format!("dropped of mirror {name}: {} files, {}\n", gone.len(), show_size(bytes))
            })
        }
    }
}

fn daemon(common: &Common) -> Result<Daemon, Failure> {
    Daemon::of(&common.place.flags())
}

async fn fetch(request: FetchRequest, common: &Common) -> Result<StoredFile, Failure> {
    let progress = Progress::new(common.json);
    let mut last = None;
    daemon(common)?
        .lines("/mirrors", &request, |line: FetchLine| {
            match line {
                FetchLine::Progress { done, total } => progress.at(done, total),
                FetchLine::Failed(problem) => return Err(Failure::from(problem)),
                FetchLine::Done { file, fetched } => last = Some((file, fetched)),
            }
            Ok(())
        })
        .await?;
    progress.finish();
    let Some((file, fetched)) = last else {
        return Err(Failure {
            error: "the daemon stopped before the file was there".into(),
            hint: Some("look at its log, then try again".into()),
        });
    };
    if !common.json {
        let how = if fetched { "fetched" } else { "there already" };
        super::print(&format!(
            "{} {how}: {}, SHA-256 {}{}\n",
            file.path,
            show_size(file.size),
            file.sha256,
            if file.verified { ", as it should be" } else { "; nothing says what it should be" }
        ))?;
    }
    Ok(file)
}

fn mirrors(list: &MirrorList) -> String {
    if list.mirrors.is_empty() {
        return "no mirrors yet; add one with: bootd site create mirror/NAME url=http://...\n".to_owned();
    }
    let rows: Vec<_> = list
        .mirrors
        .iter()
        .map(|mirror| {
            [
                mirror.name.clone(),
                mirror.files.to_string(),
                show_size(mirror.bytes),
                mirror.url.clone().unwrap_or_else(|| "not in the site any more".to_owned()),
            ]
        })
        .collect();
    let all = table(["NAME", "FILES", "STORED", "UPSTREAM"], &rows);
    format!("{all}stored {} of {} at most\n", show_size(list.bytes), show_size(list.limit))
}

fn files(stored: &[StoredFile]) -> String {
    if stored.is_empty() {
        return "nothing is stored yet\n".to_owned();
    }
    let row = |file: &StoredFile| {
        [
            show_size(file.size),
            if file.verified { "yes" } else { "no" }.to_owned(),
            moment(file.fetched),
            file.used.map_or_else(|| "-".to_owned(), moment),
            file.path.clone(),
        ]
    };
    table(["SIZE", "VERIFIED", "FETCHED", "USED", "PATH"], &stored.iter().map(row).collect::<Vec<_>>())
}

/// A value in a query.
fn escape(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(byte);
    text.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
