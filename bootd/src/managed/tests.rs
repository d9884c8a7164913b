//! What is in the list, and the clients' program itself, run by busybox against it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Mutex;

use menus::{BootFacts, ClientFacts, EmptyView, Row, ServerFacts, Variable};

use super::*;

/// A site in a map: (type, entity) -> variable -> values.
#[derive(Default)]
struct View(BTreeMap<(&'static str, &'static str), BTreeMap<&'static str, Vec<String>>>);

impl View {
    fn with(mut self, kind: &'static str, entity: &'static str, values: &[(&'static str, &[&str])]) -> Self {
        let values =
            values.iter().map(|(name, values)| (*name, values.iter().map(ToString::to_string).collect()));
        self.0.entry((kind, entity)).or_default().extend(values);
        self
    }
}

impl ConfigView for View {
    fn entities(&self, kind: &str) -> Vec<&str> {
        self.0.keys().filter(|(of, _)| *of == kind).map(|(_, name)| *name).collect()
    }

    fn values(&self, kind: &str, entity: &str, variable: &str) -> Vec<&str> {
        let found = self.0.iter().find(|((of, name), _)| *of == kind && *name == entity);
        let values = found.and_then(|(_, variables)| variables.get(variable));
        values.into_iter().flatten().map(String::as_str).collect()
    }

    fn rows(&self, kind: &str, entity: &str, table: &str) -> Vec<Row<'_>> {
        let columns: [&'static str; 2] =
            if table == "instances" { ["instance", "source"] } else { ["file_id", "file_group"] };
        let of = |column| self.values(kind, entity, column);
        of(columns[0])
            .into_iter()
            .zip(of(columns[1]))
            .map(|(first, second)| vec![(columns[0], first), (columns[1], second)])
            .collect()
    }

    fn variables(&self, _: &str, _: &str) -> Vec<Variable<'_>> {
        Vec::new()
    }
}

fn facts() -> Context {
    Context {
        client: ClientFacts {
            name: Some("pc1".parse().unwrap()),
            mac: "52:54:00:77:00:01".parse().unwrap(),
            address: None,
            image: None,
        },
        server: ServerFacts { name: "srv".to_owned(), address: [10, 0, 0, 1].into(), http_port: 80 },
        boot: BootFacts {
            address: None,
            firmware: "bios".to_owned(),
            arch: "x86_64".to_owned(),
            script_url: None,
            disk: None,
        },
        why: Vec::new(),
        menu: None,
        choice: None,
    }
}

const INSTANCES: &[(&str, &[&str])] = &[
    ("instance", &["mun@site_server", "mscluster", "mun@site_client"]),
    ("source", &["server.tera", "cluster", "client.tera"]),
];

fn access(path: &str, more: &[(&'static str, &[&str])]) -> View {
    View::default()
        .with("file", "access.conf", INSTANCES)
        .with("file", "access.conf", &[("path", &[path])])
        .with("file", "access.conf", more)
        .with("client", "pc1", &[("site", &["mun"])])
}

#[test]
fn a_client_gets_the_instance_that_is_for_it() {
    let of = |view: View| managed(&view, &facts(), "access.conf").unwrap();
    let plain = of(access("/etc/access.conf", &[])).unwrap();
    assert_eq!((plain.instance.as_str(), plain.source.as_str()), ("mun@site_client", "client.tera"));
    assert_eq!((plain.mode.as_str(), plain.owner, plain.script), ("644", None, None));
    let grouped = access("/etc/access.conf", &[("mode", &["0600"])]).with(
        "client",
        "pc1",
        &[("file_id", &["access.conf"]), ("file_group", &["mscluster"])],
    );
    let grouped = of(grouped).unwrap();
    assert_eq!((grouped.source.as_str(), grouped.mode.as_str()), ("cluster", "600"));
    assert_eq!(of(access("/etc/access.conf", &[]).with("client", "pc1", &[("site", &["other"])])), None);
    assert_eq!(managed(&EmptyView, &facts(), "access.conf").unwrap(), None);
}

#[tokio::test]
async fn a_template_that_is_not_in_force_yet_is_not_sent_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    let (state, _store, _told) = crate::testing::state(place.path());
    let site = Arc::new(crate::testing::site(place.path()));
    fs::create_dir_all(state.config.menus()).unwrap();
    for (name, text) in [("new.tera", "{{ secret }}"), ("new", "<Template></Template>"), ("plain", "{{ }}")] {
        fs::write(state.config.menus().join(name), text).unwrap();
        let of =
            access("/etc/access.conf", &[]).with("file", "access.conf", &[("source", &["x", "y", name])]);
        let managed = managed(&of, &facts(), "access.conf").unwrap().unwrap();
        match made(&state, &site, &facts(), &managed).await {
            Ok(content) => assert_eq!((name, content.as_slice()), ("plain", text.as_bytes())),
            Err(e) => assert!(name != "plain" && e.to_string().contains("not in force yet"), "{name}: {e}"),
        }
    }
}

#[test]
fn what_a_clients_root_should_not_run_by_is_refused() {
    for path in [
        "etc/x",
        "/",
        "/etc/",
        "/etc/../x",
        "/etc//x",
        "/etc/./x",
        "/etc/a\nfile",
        "/a\tb",
        &format!("/{}", "x".repeat(5000)),
    ] {
        let error = managed(&access(path, &[]), &facts(), "access.conf").unwrap_err().to_string();
        assert!(error.contains("access.conf") && error.contains("absolute path"), "{path:?}: {error}");
    }
    for (variable, value) in [
        ("owner", "root; rm -rf /"),
        ("owner", "-R"),
        ("owner", ""),
        ("mode", "u+s"),
        ("mode", "77777"),
        ("script", "reload"),
        ("script", "/bin/../x"),
    ] {
        let view = access("/etc/x", &[(variable, &[value])]);
        assert!(managed(&view, &facts(), "access.conf").is_err(), "{variable} {value:?}");
    }
    let good =
        access("/etc/a b 'c' \"d\" $e", &[("owner", &["www-data:www-data"]), ("script", &["/sbin/re load"])]);
    let good = managed(&good, &facts(), "access.conf").unwrap().unwrap();
    let line = line(&good, b"abc");
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let wanted = format!(
        "file\taccess.conf\t{digest}\twww-data:www-data\t644\t/etc/a b 'c' \"d\" $e\t/sbin/re load\n"
    );
    assert_eq!(line, wanted);
}

/// A server that answers what it was given, the place that its client keeps files in, and the client's program.
struct Place {
    directory: tempfile::TempDir,
    served: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    asked: Arc<Mutex<Vec<String>>>,
    server: String,
}

impl Place {
    /// A new one; `None` where there is no busybox, which is said. Under `CI=true` that is a failure.
    fn new() -> Option<Self> {
        if Command::new("busybox").output().is_err() {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no busybox: install busybox-static");
            let _ = writeln!(std::io::stderr(), "skipped a test of bootd-files.sh: no busybox is installed");
            return None;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let served: Arc<Mutex<BTreeMap<String, Vec<u8>>>> = Arc::default();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (serves, notes) = (Arc::clone(&served), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines: Vec<String> = BufReader::new(&stream)
                    .lines()
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty())
                    .collect();
                let path = lines[0].split(' ').nth(1).unwrap().to_owned();
                let found = serves.lock().unwrap().get(&path).cloned();
                let status = if found.is_some() { "200 OK" } else { "404 Not Found" };
                let body = found.unwrap_or_default();
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
                notes.lock().unwrap().push(path);
            }
        });
        Some(Self { directory: tempfile::tempdir().unwrap(), served, asked, server })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(name)
    }

    /// Serves these files: their paths, contents, permissions, scripts.
    fn serve(&self, files: &[(&str, &[u8], &str, Option<&str>)]) {
        let mut served = self.served.lock().unwrap();
        served.clear();
        let mut list = String::new();
        for (index, (path, content, mode, script)) in files.iter().enumerate() {
            let managed = Managed {
                name: format!("f{index}"),
                instance: "all".to_owned(),
                source: String::new(),
                path: path.to_string(),
                owner: Some(owner()),
                mode: mode.to_string(),
                script: script.map(str::to_owned),
            };
            list.push_str(&line(&managed, content));
            served.insert(format!("/client/files/f{index}"), content.to_vec());
        }
        list.push_str(&format!("end\t{}\n", files.len()));
        served.insert("/client/files".to_owned(), list.into_bytes());
    }

    fn run(&self) -> Output {
        let program = self.path("bootd-files.sh");
        fs::write(&program, PROGRAM).unwrap();
        let mut command = Command::new("busybox");
        command.arg("sh").arg(&program).arg(&self.server);
        command.env("BOOTD_FILES_STATE", self.path("state")).current_dir("/");
        // Busybox's own tools only.
        command.env("PATH", self.path("bin"));
        if !self.path("bin").exists() {
            fs::create_dir(self.path("bin")).unwrap();
            let install = ["--install", "-s"];
            assert!(Command::new("busybox").args(install).arg(self.path("bin")).status().unwrap().success());
        }
        command.output().unwrap()
    }

    /// Runs it, and returns how many contents it fetched.
    fn run_well(&self) -> usize {
        self.asked.lock().unwrap().clear();
        let output = self.run();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
        self.asked.lock().unwrap().iter().filter(|path| path.starts_with("/client/files/")).count()
    }

    fn run_badly(&self) -> String {
        let output = self.run();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    }
}

/// Whoever runs the tests, as the site would write it.
fn owner() -> String {
    let id = |flag| {
        String::from_utf8(Command::new("id").arg(flag).output().unwrap().stdout).unwrap().trim().to_owned()
    };
    format!("{}:{}", id("-un"), id("-gn"))
}

/// A script that counts its runs in a file beside it.
fn script(place: &Place, name: &str, ends: &str) -> String {
    let path = place.path(name);
    fs::write(&path, format!("#!/bin/sh\necho ran >> '{}.runs'\n{ends}\n", path.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn runs(place: &Place, name: &str) -> usize {
    fs::read_to_string(place.path(&format!("{name}.runs"))).unwrap_or_default().lines().count()
}

fn names_in(directory: &std::path::Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_program_keeps_files_as_they_should_be_and_fetches_what_differs() {
    let Some(place) = Place::new() else { return };
    let reload = script(&place, "re load", "");
    let path = |name: &str| place.path(name).to_str().unwrap().to_owned();
    let names =
        ["etc/plain", "etc/a 'b' \"c\" $d `e` *", "etc/deep/er/\u{fc}ml\u{e4}ut", "etc/-rf", "etc/binary"];
    let paths = names.map(path);
    let binary: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let contents: [&[u8]; 5] = [b"plain\n", b"quoted", b"", b"no newline at the end", &binary];
    let all: Vec<_> = paths
        .iter()
        .zip(contents)
        .map(|(path, content)| (path.as_str(), content, "640", Some(reload.as_str())))
        .collect();
    place.serve(&all);
    assert_eq!(place.run_well(), 5);
    for (path, content) in paths.iter().zip(contents) {
        assert!(fs::read(path).unwrap() == content, "{path}");
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o640, "{path}");
    }
    assert_eq!(runs(&place, "re load"), 1, "a script of several files is run once");
    assert_eq!(
        names_in(&place.path("etc")),
        ["-rf", "a 'b' \"c\" $d `e` *", "binary", "deep", "plain"],
        "nothing is left"
    );

    assert_eq!(place.run_well(), 0, "what is as it should be is not fetched");
    assert_eq!(runs(&place, "re load"), 1);
    fs::set_permissions(&paths[0], fs::Permissions::from_mode(0o666)).unwrap();
    fs::write(&paths[1], "changed here").unwrap();
    assert_eq!(place.run_well(), 2);
    assert_eq!(fs::metadata(&paths[0]).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(fs::read(&paths[1]).unwrap(), b"quoted");
    assert_eq!(runs(&place, "re load"), 2);
}

#[test]
fn a_link_at_the_destination_is_replaced_and_not_followed() {
    let Some(place) = Place::new() else { return };
    fs::create_dir_all(place.path("etc")).unwrap();
    fs::create_dir_all(place.path("elsewhere")).unwrap();
    fs::write(place.path("victim"), "victim").unwrap();
    symlink(place.path("victim"), place.path("etc/to-file")).unwrap();
    symlink(place.path("elsewhere"), place.path("etc/to-directory")).unwrap();
    symlink("nowhere", place.path("etc/dangling")).unwrap();
    let paths = ["etc/to-file", "etc/to-directory", "etc/dangling"]
        .map(|name| place.path(name).to_str().unwrap().to_owned());
    place.serve(&paths.each_ref().map(|path| (path.as_str(), &b"new"[..], "644", None)));
    assert_eq!(place.run_well(), 3);
    for path in &paths {
        assert!(fs::symlink_metadata(path).unwrap().is_file(), "{path}");
        assert_eq!(fs::read(path).unwrap(), b"new");
    }
    assert_eq!(fs::read(place.path("victim")).unwrap(), b"victim");
    assert_eq!(names_in(&place.path("elsewhere")), Vec::<String>::new());

    // On the way there, only root's links are followed: nobody else may lead its writes elsewhere.
    symlink(place.path("elsewhere"), place.path("link")).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::lchown(place.path("link"), Some(65534), Some(65534)).unwrap();
    }
    let through = place.path("link/x").to_str().unwrap().to_owned();
    place.serve(&[(&through, b"new", "644", None)]);
    let said = place.run_badly();
    assert!(said.contains("is a link that is not root's"), "{said}");
    assert_eq!(names_in(&place.path("elsewhere")), Vec::<String>::new());
}

#[test]
fn what_fails_is_told_and_holds_up_nothing_else() {
    let Some(place) = Place::new() else { return };
    let failing = script(&place, "failing", "exit 3");
    fs::create_dir_all(place.path("etc/directory")).unwrap();
    let paths = ["etc/directory", "etc/cut", "etc/gone", "etc/good"]
        .map(|name| place.path(name).to_str().unwrap().to_owned());
    place.serve(&[
        (&paths[0], b"x", "644", None),
        (&paths[1], b"what was listed", "644", None),
        (&paths[2], b"x", "644", None),
        (&paths[3], b"good", "644", Some(&failing)),
    ]);
    {
        let mut served = place.served.lock().unwrap();
        served.insert("/client/files/f1".to_owned(), b"what came".to_vec());
        served.remove("/client/files/f2");
        let list = served.get_mut("/client/files").unwrap();
        let failed = b"failed\tmotd\tthere is no template motd.tera\n";
        list.splice(0..0, failed.iter().copied());
    }
    let said = place.run_badly();
    for (part, why) in [
        (paths[0].as_str(), "is a directory"),
        (&paths[1], "what was fetched is not what was listed"),
        (&paths[2], "can't fetch it"),
        ("motd", "there is no template motd.tera"),
        (&failing, "failed; it is tried again"),
    ] {
        assert!(said.lines().any(|line| line.contains(part) && line.contains(why)), "{part} {why}: {said}");
    }
    assert_eq!(fs::read(&paths[3]).unwrap(), b"good");
    assert_eq!(names_in(&place.path("etc")), ["directory", "good"], "nothing half done is left");

    // The script is run again although its file has not changed since, until it succeeds.
    place.serve(&[(&paths[3], b"good", "644", Some(&failing))]);
    place.run_badly();
    script(&place, "failing", "");
    assert_eq!(place.run_well(), 0);
    assert_eq!(runs(&place, "failing"), 3);
    assert_eq!(place.run_well(), 0);
    assert_eq!(runs(&place, "failing"), 3);
}

#[test]
fn a_list_that_is_cut_off_or_missing_changes_nothing() {
    let Some(place) = Place::new() else { return };
    let path = place.path("etc/file").to_str().unwrap().to_owned();
    place.serve(&[(&path, b"new", "644", None)]);
    let whole = place.served.lock().unwrap()["/client/files"].clone();
    for list in [&whole[..whole.len() / 2], &whole[..whole.len() - 6], b""] {
        place.served.lock().unwrap().insert("/client/files".to_owned(), list.to_vec());
        assert!(place.run_badly().contains("cut off"));
    }
    place.served.lock().unwrap().clear();
    assert!(place.run_badly().contains("is this a client that may boot?"));
    assert!(!place.path("etc").exists());
}
