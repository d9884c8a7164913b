//! Files that come in and go out.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write as _, stdin};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use hyper::Method;
use serde::Serialize;
use site::entity::{Expression, TypeName};
use site::exchange::{CsvOptions, LabnetFile, LabnetOptions, MAX_FILE, TextFormat};

use super::super::args::Common;
use super::super::{Failure, print, show};
use super::args::{Renamed, RenamedVariable};
use super::daemon;
use crate::control::entities::wire::{Ask, ExportRequest, Exported};

/// The most files that a Labnet tree may have. One of more is something else.
const MAX_FILES: usize = 100_000;

/// `site apply FILE`.
pub(super) fn apply(file: &Path, format: Option<TextFormat>, prune: bool) -> Result<Ask, Failure> {
    let name = file.display().to_string();
    let format = format.or_else(|| TextFormat::of_file(&name)).ok_or_else(|| Failure {
        error: format!("{name}: it can't be told how this is written"),
        hint: Some("call it .toml, .yaml or .json, or say --format".into()),
    })?;
    let (file, text) = (said(file), text(file)?);
    Ok(Ask::Apply { file, text, format, prune })
}

/// `site import-csv FILE`.
pub(super) fn csv(file: &Path, kind: TypeName, delimiter: char, separator: char) -> Result<Ask, Failure> {
    let options = CsvOptions { kind, delimiter, separator };
    // What is not UTF-8 is told with its place by a reader that knows lines and columns.
    let bytes = bytes(file)?;
    let name = said(file);
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let told = site::exchange::csv(error.as_bytes(), &options, &name).err();
            return Err(told.map_or_else(|| Failure::new(format!("{name}: it is not UTF-8")), Failure::new));
        }
    };
    Ok(Ask::Csv { file: name, text, options })
}

/// `site import-labnet DIRECTORY`: the files of all types, or of those named.
pub(super) fn labnet(
    directory: &Path,
    kinds: &[String],
    types: Vec<Renamed>,
    variables: Vec<RenamedVariable>,
) -> Result<Ask, Failure> {
    let mut files = Vec::new();
    let mut bytes = 0;
    for (kind, path) in entries(directory)? {
        let wanted = kinds.is_empty() || kinds.contains(&kind);
        if !wanted || !path.is_dir() {
            continue;
        }
        for (name, path) in entries(&path)?.into_iter().filter(|(_, path)| path.is_file()) {
            let text = text(&path)?;
            bytes += text.len();
            if files.len() == MAX_FILES || bytes > MAX_FILE {
                return Err(Failure {
                    error: format!(
                        "{}: more than {MAX_FILES} files or {MAX_FILE} bytes",
                        directory.display()
                    ),
                    hint: Some("is it a Labnet tree? Take it in type by type with --type".into()),
                });
            }
            files.push(LabnetFile { kind: kind.clone(), name, path: path.display().to_string(), text });
        }
    }
    if files.is_empty() {
        return Err(Failure {
            error: format!("{}: there are no files TYPE/NAME in it", directory.display()),
            hint: Some(
                "name the directory that has a folder for each type, usually /usr/local/etc/labnet".into(),
            ),
        });
    }
    let options = LabnetOptions {
        types: types.into_iter().map(|renamed| (renamed.old, renamed.new)).collect(),
        variables: variables.into_iter().map(|renamed| (renamed.kind, renamed.old, renamed.new)).collect(),
    };
    Ok(Ask::Labnet { files, options })
}

/// What a directory holds, by name, without hidden files and editors' copies.
fn entries(directory: &Path) -> Result<Vec<(String, std::path::PathBuf)>, Failure> {
    let wrong = |e: std::io::Error| Failure::new(format!("{}: {e}", directory.display()));
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !name.ends_with('~') {
            all.push((name, entry.path()));
        }
    }
    all.sort();
    Ok(all)
}

#[derive(Serialize)]
struct Written<'a> {
    revision: u64,
    file: &'a Path,
}

/// `site export`.
pub(super) async fn export(
    filter: Option<Expression>,
    format: Option<TextFormat>,
    secrets: bool,
    output: Option<&Path>,
    common: &Common,
) -> Result<(), Failure> {
    let by_name = output.and_then(|file| TextFormat::of_file(&file.to_string_lossy()));
    let default = if common.json { TextFormat::Json } else { TextFormat::Toml };
    let request = ExportRequest { filter, format: format.or(by_name).unwrap_or(default), secrets };
    let exported: Exported = daemon(common)?.call(Method::POST, "/site/export", Some(&request)).await?;
    let Some(file) = output else { return print(&exported.text) };
    let mode = if secrets { 0o600 } else { 0o644 };
    let write = || {
        let mut out = OpenOptions::new().write(true).create_new(true).mode(mode).open(file)?;
        out.write_all(exported.text.as_bytes())?;
        out.sync_all()
    };
    write().map_err(|e| Failure::new(format!("{}: {e}", file.display())))?;
    show(common.json, &Written { revision: exported.revision, file }, |written| {
        format!("written to {}: the site at revision {}\n", written.file.display(), written.revision)
    })
}

/// A file's name in errors.
fn said(file: &Path) -> String {
    if is_stdin(file) { "standard input".to_owned() } else { file.display().to_string() }
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn bytes(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_FILE).unwrap_or(u64::MAX) + 1;
    let read = if is_stdin(file) {
        stdin().take(most).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|open| open.take(most).read_to_end(&mut bytes))
    };
    read.map_err(|e| Failure::new(format!("{}: {e}", said(file))))?;
    if bytes.len() > MAX_FILE {
        return Err(Failure {
            error: format!("{}: it is larger than {MAX_FILE} bytes", said(file)),
            hint: Some("take it in in parts".into()),
        });
    }
    Ok(bytes)
}

fn text(file: &Path) -> Result<String, Failure> {
    String::from_utf8(bytes(file)?).map_err(|e| {
        let line =
            e.as_bytes().iter().take(e.utf8_error().valid_up_to()).filter(|byte| **byte == b'\n').count() + 1;
        Failure::new(format!("{}:{line}: it is not UTF-8", said(file)))
    })
}
