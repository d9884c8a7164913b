//! The house's rules, held by a machine: who may depend on whom, where the effects are, how long a file may be.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};
use source::{Source, files, sources};
use support::{Context, Result, ensure, workspace};

/// Every folder that is a package, and the folders that it may depend on.
const EDGES: &[(&str, &[&str])] = &[
    ("block", &[]),
    ("flashcache", &["block"]),
    ("lvm", &["block", "flashcache"]),
    ("iscsi", &["block"]),
    ("site", &[]),
    ("netboot", &["site"]),
    ("menus", &["site"]),
    ("bootd", &["block", "flashcache", "lvm", "iscsi", "site", "netboot", "menus"]),
    // It puts loads on the parts themselves as well as on the whole, some of them in the tests' virtual appserver.
    ("bench", &["block", "lvm", "iscsi", "bootd", "tests"]),
    // They know bootd by its command line and its wire only.
    ("tests", &[]),
];

/// What the packages without I/O may not reach, by whatever way. (`netboot` and `menus` reach SQLite: `site` has the
/// store beside the snapshot. That they don't use it, the sources show.)
const SANS_IO: &[&str] = &["iscsi", "netboot", "menus"];
const IO_CRATES: &[&str] = &["tokio", "mio", "hyper", "axum", "async-std", "smol", "socket2", "nix"];

/// The disk's packages may block, but know of no runtime: they are called from threads that may wait.
const BLOCKING: &[&str] = &["block", "flashcache", "lvm", "site"];
const RUNTIMES: &[&str] = &["tokio", "mio", "hyper", "axum", "async-std", "smol"];

/// What the store has beside the snapshot, for a database on a server: a runtime of its own that nobody sees. That no
/// other source of the package uses it, the words show.
const STORE: (&str, &[&str]) = ("bootd-site", &["tokio", "tokio_postgres"]);

/// Where bytes and time come in as arguments, so that a test can give any.
const SANS_IO_SOURCES: &[&str] = &["iscsi/src", "netboot/src", "menus/src", "site/src"];
/// The one part of these that is a file on disk.
const SANS_IO_EXCEPT: &[&str] = &["site/src/store"];
const IO_WORDS: &[&str] = &[
    "tokio",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "UnixStream",
    "UnixListener",
    "Instant::now",
    "SystemTime::now",
    "rusqlite",
    "site::Store",
];

/// The only place of kernel calls by number.
const KERNEL: &[&str] = &["lvm/src/kernel"];
/// The only place of what the compiler can't check.
const UNSAFE: &[&str] = &["bootd/src/sys"];
/// Files below /sys that are read, and by whom.
const READS_SYS: &[(&str, &str)] = &[
    ("bootd/src/machine.rs", "\"/sys/fs/cgroup/memory.max\""),
    ("lvm/tests/engine/only_kernel.rs", "\"/sys/block\""),
];

const LONGEST_FILE: usize = 600;

#[test]
fn dependencies_point_downwards() -> Result {
    let metadata = metadata()?;
    let mut wrong = Vec::new();
    for package in metadata.workspace_packages() {
        let folder =
            folder_of(package.manifest_path.parent().context("a manifest without a folder")?.as_str());
        let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == folder) else {
            wrong.push(format!("{folder}: not in this test's list: say what it may depend on"));
            continue;
        };
        let named = if folder == "bootd" { folder.clone() } else { format!("bootd-{folder}") };
        if *package.name != named {
            wrong.push(format!("{folder}: the package's name is {}, not {named}", package.name));
        }
        for dependency in &package.dependencies {
            let Some(path) = &dependency.path else { continue };
            let on = folder_of(path.as_str());
            if !allowed.contains(&on.as_str()) {
                wrong.push(format!("{folder} depends on {on}"));
            }
        }
    }
    none("dependencies that the house does not have", &wrong)
}

#[test]
fn what_decides_reaches_no_io() -> Result {
    let metadata = metadata()?;
    let mut wrong = Vec::new();
    for (folders, forbidden) in [(SANS_IO, IO_CRATES), (BLOCKING, RUNTIMES)] {
        for folder in folders {
            let reached = reached_from(&metadata, &format!("bootd-{folder}"))?;
            let found = forbidden.iter().filter(|name| reached.contains(**name));
            wrong.extend(found.map(|name| format!("{folder} reaches {name}")));
        }
    }
    none("crates that do I/O, where there may be none", &wrong)
}

#[test]
fn what_decides_does_no_io() -> Result {
    let mut wrong = Vec::new();
    let all = sources()?;
    let own = all.iter().filter(|s| s.is_below(SANS_IO_SOURCES) && !s.is_below(SANS_IO_EXCEPT));
    let mut seen = 0;
    for source in own {
        seen += 1;
        wrong.extend(IO_WORDS.iter().flat_map(|word| source.uses(word)));
    }
    ensure!(seen > 20, "only {seen} sources were looked at: is the list of folders right?");
    none("I/O, a clock or a thread where there may be none", &wrong)
}

#[test]
fn effects_on_the_kernel_are_in_one_place() -> Result {
    let mut wrong = Vec::new();
    for source in sources()?.iter().filter(|source| !source.is_below(KERNEL)) {
        wrong.extend(
            ["ioctl", "ioctl_read", "ioctl_write_ptr", "ioctl_readwrite"].iter().flat_map(|w| source.uses(w)),
        );
        for (line, text) in source.strings.iter().filter(|(_, text)| text.starts_with("\"/sys/")) {
            if !READS_SYS.contains(&(source.path.as_str(), text.as_str())) {
                wrong.push(format!("{}:{line}: {text}", source.path));
            }
        }
    }
    none("kernel calls by number, or files below /sys", &wrong)
}

#[test]
fn unsafe_code_is_in_one_place() -> Result {
    let all = sources()?;
    let elsewhere = all.iter().filter(|source| !source.is_below(UNSAFE));
    // `unsafe_code`, with which it can be allowed again, is a word of its own.
    let wrong: Vec<_> = elsewhere.flat_map(|s| [s.uses("unsafe"), s.uses("unsafe_code")].concat()).collect();
    none("unsafe code", &wrong)
}

#[test]
fn no_file_is_too_long_to_read() -> Result {
    let long = sources()?.into_iter().filter(|source| source.length > LONGEST_FILE);
    let wrong: Vec<_> = long.map(|source| format!("{}: {} lines", source.path, source.length)).collect();
    none("files longer than 600 lines", &wrong)
}

#[test]
fn a_crate_root_is_a_table_of_contents() -> Result {
    let all = sources()?;
    let roots = all.iter().filter(|source| source.path.ends_with("src/lib.rs"));
    let items = ["fn", "struct", "enum", "trait", "impl"];
    let wrong: Vec<_> = roots.flat_map(|root| items.iter().flat_map(|item| root.uses(item))).collect();
    none("code in a lib.rs", &wrong)
}

#[test]
fn every_package_keeps_the_lints_of_all() -> Result {
    let metadata = metadata()?;
    let mut wrong = Vec::new();
    for package in metadata.workspace_packages() {
        let text = fs::read_to_string(&package.manifest_path)?;
        if !text.contains("[lints]\nworkspace = true") {
            wrong.push(format!("{}: no [lints] workspace = true", package.manifest_path));
        }
    }
    none("packages with lints of their own", &wrong)
}

#[test]
fn nothing_built_is_kept_with_the_sources() -> Result {
    // Corpora of fuzzing are bytes by their nature, and small.
    let own = files()?.into_iter().filter(|path| !path.starts_with("fuzz/corpus"));
    let mut wrong = Vec::new();
    for path in own {
        let bytes = fs::read(workspace().join(&path)).context(path.display())?;
        if std::str::from_utf8(&bytes).is_err() && !path.components().any(|part| part.as_os_str() == "corpus")
        {
            wrong.push(path.display().to_string());
        }
    }
    none("files that are no text", &wrong)
}

#[test]
fn links_in_the_documents_lead_somewhere() -> Result {
    let mut wrong = Vec::new();
    for path in files()?.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "md")) {
        let text = fs::read_to_string(workspace().join(&path))?;
        let directory = workspace().join(path.parent().context("a file without a folder")?);
        for link in links(&text) {
            let file = link.split('#').next().unwrap_or_default();
            if !file.is_empty() && !link.contains("://") && !directory.join(file).exists() {
                wrong.push(format!("{}: {link}", path.display()));
            }
        }
    }
    none("links that lead nowhere", &wrong)
}

/// Words as they are spelt here, and how they are not.
#[test]
fn documents_spell_as_one() -> Result {
    let other =
        ["initialize", "color", "behavior", "optimize", "recognize", "organize", "neighbor", "license "];
    let mut wrong = Vec::new();
    for path in files()?.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "md")) {
        let text = fs::read_to_string(workspace().join(&path))?;
        for (number, line) in text.lines().enumerate() {
            // Between backquotes stands code, which has its own spelling.
            let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ").to_lowercase();
            let found = other.iter().filter(|word| prose.contains(**word));
            wrong.extend(found.map(|word| format!("{}:{}: {word}", path.display(), number + 1)));
        }
    }
    none("American spelling", &wrong)
}

/// What stands in the round brackets of `[text](link)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

fn metadata() -> Result<Metadata> {
    Ok(MetadataCommand::new().current_dir(workspace()).other_options(["--offline".to_owned()]).exec()?)
}

fn folder_of(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

/// The names of all packages that `from` is built with; what it is only tested with is not among them.
fn reached_from(metadata: &Metadata, from: &str) -> Result<BTreeSet<String>> {
    let names: BTreeMap<_, _> = metadata.packages.iter().map(|p| (&p.id, p.name.to_string())).collect();
    let nodes = &metadata.resolve.as_ref().context("cargo resolved nothing")?.nodes;
    let by_id: BTreeMap<_, _> = nodes.iter().map(|node| (&node.id, node)).collect();
    let start = names.iter().find(|(_, name)| *name == from).context(format!("no package {from}"))?;
    let mut open = vec![*start.0];
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        let needs = by_id.get(id).into_iter().flat_map(|node| &node.deps);
        let built = needs.filter(|d| d.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development));
        let of = names.get(id).map(String::as_str);
        let built = built.filter(|d| !(of == Some(STORE.0) && STORE.1.contains(&d.name.as_str())));
        open.extend(built.map(|dependency| &dependency.pkg));
    }
    Ok(seen.into_iter().filter_map(|id| names.get(id).cloned()).collect())
}

fn none(what: &str, found: &[String]) -> Result {
    ensure!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
    Ok(())
}

/// Whether a rule that nothing breaks could be broken at all.
#[test]
fn a_breach_would_be_seen() {
    let source = Source::new("iscsi/src/a.rs".to_owned(), "fn now() -> Instant { Instant::now() }\n");
    let found: Vec<_> = IO_WORDS.iter().flat_map(|word| source.uses(word)).collect();
    assert_eq!(found, ["iscsi/src/a.rs:1: Instant::now"]);
    assert_eq!(links("see [a](b.md) and [c](d.md#e)").collect::<Vec<_>>(), ["b.md", "d.md#e"]);
}
