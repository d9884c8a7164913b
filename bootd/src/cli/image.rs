//! `bootd image`.

use std::path::Path;

use hyper::Method;
use site::{ClientName, Image, ImageName};

use super::args::{Common, ImageCommand};
use super::daemon::{Daemon, NOTHING};
use super::progress::Progress;
use super::table::{facts, table};
use super::{Failure, show};
use crate::config::show_size;
use crate::control::api::{Edit, ImageEntry, ImportLine, ImportRequest};

pub(super) async fn run(command: ImageCommand) -> Result<(), Failure> {
    match command {
        ImageCommand::Add { name, file, in_place, common } => add(name, &file, in_place, &common).await,
        ImageCommand::List { common } => {
            let images: Vec<ImageEntry> = daemon(&common)?.get("/images").await?;
            show(common.json, &images, |images| list(images))
        }
        ImageCommand::Show { name, common } => {
            let image: ImageEntry = daemon(&common)?.get(&format!("/images/{name}")).await?;
            show(common.json, &image, describe)
        }
        ImageCommand::Remove { name, force, common } => {
            let path = format!("/images/{name}?force={force}");
            let edit: Edit<ImageEntry> = daemon(&common)?.call(Method::DELETE, &path, NOTHING).await?;
            show(common.json, &edit, |edit| {
                let clients: Vec<&str> = edit.value.clients.iter().map(ClientName::as_str).collect();
                match clients.as_slice() {
                    [] => format!("image {} removed\n", edit.value.image.name),
                    clients => format!(
                        "image {} removed; left without an image: {}\n",
                        edit.value.image.name,
                        clients.join(", ")
                    ),
                }
            })
        }
    }
}

fn daemon(common: &Common) -> Result<Daemon, Failure> {
    Daemon::of(&common.place.flags())
}

async fn add(name: ImageName, file: &Path, in_place: bool, common: &Common) -> Result<(), Failure> {
    // The daemon has a working directory of its own.
    let file = std::path::absolute(file).map_err(|e| Failure::new(format!("{}: {e}", file.display())))?;
    let request = ImportRequest { name, file, in_place };
    let progress = Progress::new(common.json);
    let mut last = None;
    daemon(common)?
        .lines("/images", &request, |line: ImportLine| {
            match line {
                ImportLine::Progress { done, total } => progress.at(done, total),
                ImportLine::Failed(problem) => return Err(Failure::from(problem)),
                ImportLine::Done { .. } => last = Some(line),
            }
            Ok(())
        })
        .await?;
    progress.finish();
    let Some(done) = last else {
        return Err(Failure {
            error: "the daemon stopped before the image was taken in".into(),
            hint: Some("look at its log, then try again; nothing has changed".into()),
        });
    };
    show(common.json, &done, |done| match done {
        ImportLine::Done { image, changed: false, .. } => {
            format!("image {} was at version {} already\n", image.name, image.version)
        }
        ImportLine::Done { image, replaced: Some(old), .. } => {
            format!(
                "image {} is at version {} from the next boot on (was {old})\n",
                image.name, image.version
            )
        }
        ImportLine::Done { image, .. } => {
            format!("image {} added: version {}, {}\n", image.name, image.version, show_size(image.size))
        }
        ImportLine::Progress { .. } | ImportLine::Failed(_) => String::new(),
    })
}

fn list(images: &[ImageEntry]) -> String {
    if images.is_empty() {
        return "no images yet; add one with: bootd image add NAME FILE\n".to_owned();
    }
    let row = |ImageEntry { image, clients }: &ImageEntry| {
        [
            image.name.to_string(),
            image.version.to_string(),
            show_size(image.size),
            clients.len().to_string(),
            image.path.display().to_string(),
        ]
    };
    table(["NAME", "VERSION", "SIZE", "CLIENTS", "FILE"], &images.iter().map(row).collect::<Vec<_>>())
}

fn describe(ImageEntry { image, clients }: &ImageEntry) -> String {
    let Image { name, version, path, size } = image;
    let clients: Vec<&str> = clients.iter().map(ClientName::as_str).collect();
    facts(&[
        ("name", name.to_string()),
        ("version", version.to_string()),
        ("size", format!("{} ({size} bytes)", show_size(*size))),
        ("file", path.display().to_string()),
        ("clients", if clients.is_empty() { "none".to_owned() } else { clients.join(", ") }),
    ])
}
