//! The API over a real Unix socket, with a real database and the simulated engine, asked by the command line's own
//! client.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use hyper::Method;
use serde_json::{Value, json};
use site::{Author, Client, Store};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::api::{Edit, Explanation, ImageEntry, ImportLine, ImportRequest, Rendering, Status};
use super::{Control, ControlSocket};
use crate::cli::daemon::{Daemon, NOTHING};
use crate::config::Flags;
use crate::events::Recent;
use crate::serve::ServiceError;
use crate::state::State;
use crate::taps::Taps;
use crate::testing::{self, MAC};
use crate::{app, boot};

struct Fixture {
    directory: TempDir,
    state: Arc<State>,
    daemon: Daemon,
    stop: CancellationToken,
    running: JoinHandle<Result<(), ServiceError>>,
}

impl Fixture {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (state, _store, _told) = testing::state(directory.path());
        let socket = ControlSocket::bind(&state.config).unwrap();
        let mode = std::fs::metadata(state.config.socket()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "the socket is its user's alone");
        let serves = vec!["tests".to_owned()];
        let control = Control::new(Arc::clone(&state), Arc::new(Recent::default()), serves, 1, Taps::none());
        let stop = CancellationToken::new();
        let running = tokio::spawn(socket.run(Arc::new(control), stop.clone()));
        let flags = Flags { data: Some(state.config.data.clone()), ..Flags::default() };
        let daemon = Daemon::of(&flags).unwrap();
        Self { directory, state, daemon, stop, running }
    }

    /// Takes in an image of that many bytes of `byte`.
    async fn import(&self, name: &str, byte: u8) -> ImportLine {
        let file = self.directory.path().join(format!("{name}.raw"));
        std::fs::write(&file, vec![byte; 1 << 20]).unwrap();
        self.import_file(&file, name).await
    }

    async fn import_file(&self, file: &std::path::Path, name: &str) -> ImportLine {
        let request = ImportRequest { name: name.parse().unwrap(), file: file.to_owned(), in_place: false };
        let mut last = None;
        let each = |line| {
            last = Some(line);
            Ok(())
        };
        self.daemon.lines("/images", &request, each).await.unwrap();
        last.expect("a last line")
    }

    async fn add(&self, client: &Client) -> Result<Edit<Client>, String> {
        let added = self.daemon.call(Method::POST, "/clients", Some(client)).await;
        added.map_err(|failure| failure.to_string())
    }

    async fn refused(&self, method: Method, path: &str, body: Option<&Value>) -> String {
        self.daemon.call::<Value>(method, path, body).await.expect_err("refused").to_string()
    }
}

#[tokio::test]
async fn clients_and_images_are_added_changed_and_removed() {
    let all = Fixture::start();
    let ImportLine::Done { image, replaced: None, changed: true } = all.import("debian", 1).await else {
        panic!("not added")
    };
    assert_eq!(std::fs::read(&image.path).unwrap(), vec![1; 1 << 20]);

    let client = testing::client();
    assert!(all.add(&client).await.unwrap().changed);
    assert!(!all.add(&client).await.unwrap().changed, "the same again is no change");
    let listed: Vec<Client> = all.daemon.get("/clients").await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&client));
    assert_eq!(all.daemon.get::<Client>("/clients/pc1").await.unwrap(), client);
    assert!(all.state.site.load().client_by_mac(MAC).is_some(), "in force at once");
    let images: Vec<ImageEntry> = all.daemon.get("/images").await.unwrap();
    assert_eq!(images[0].clients, std::slice::from_ref(&client.name));

    let change = json!({ "address": null, "overlay_limit": 1 << 30 });
    let set: Edit<Client> = all.daemon.call(Method::PATCH, "/clients/pc1", Some(&change)).await.unwrap();
    assert_eq!((set.value.address, set.value.overlay_limit), (None, Some(1 << 30)));

    let in_use = all.refused(Method::DELETE, "/images/debian", None).await;
    assert!(in_use.contains("pc1"), "{in_use}");
    let gone: Edit<ImageEntry> =
        all.daemon.call(Method::DELETE, "/images/debian?force=true", NOTHING).await.unwrap();
    assert_eq!(gone.value.clients, std::slice::from_ref(&client.name));
    let gone: Edit<Client> = all.daemon.call(Method::DELETE, "/clients/pc1", NOTHING).await.unwrap();
    assert_eq!(gone.value.image, None);
    assert!(all.daemon.get::<Vec<Client>>("/clients").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_new_version_replaces_the_old_one_under_the_same_name() {
    let all = Fixture::start();
    let ImportLine::Done { image: first, .. } = all.import("debian", 1).await else { panic!("not added") };
    let ImportLine::Done { changed: false, .. } = all.import("debian", 1).await else { panic!("changed") };
    let ImportLine::Done { image: second, replaced, changed: true } = all.import("debian", 2).await else {
        panic!("not replaced")
    };
    assert_eq!(replaced.as_ref(), Some(&first.version));
    assert_ne!(first.version, second.version);
    assert_eq!(std::fs::read(&first.path).unwrap(), vec![1; 1 << 20], "running clients keep theirs");
    assert_eq!(std::fs::read(&second.path).unwrap(), vec![2; 1 << 20]);
}

#[tokio::test]
async fn errors_say_what_is_wrong_and_what_would_be_right() {
    let all = Fixture::start();
    let whole = serde_json::to_value(testing::client()).unwrap();
    let with = |key: &str, value: Value| {
        let mut client = whole.clone();
        client[key] = value;
        client["image"] = if key == "image" { client["image"].clone() } else { Value::Null };
        client
    };
    for (method, path, body, words) in [
        (Method::GET, "/clients/nobody", None, ["nobody", "bootd client list"]),
        (Method::GET, "/clients/No_Body", None, ["No_Body", "en1018-07"]),
        (Method::GET, "/explain/52:54", None, ["52:54", "six pairs"]),
        (Method::GET, "/images/none", None, ["none", "bootd image list"]),
        (Method::GET, "/status?client=nobody", None, ["nobody", "bootd client list"]),
        (Method::GET, "/nonsense", None, ["no such request", "bootd --help"]),
        (Method::POST, "/clients", Some(with("image", json!("absent"))), ["absent", "image"]),
        (Method::POST, "/clients", Some(with("mac", json!("ff:ff"))), ["ff:ff", "six pairs"]),
        (
            Method::POST,
            "/clients",
            Some(with("address", json!("10.9.9.9"))),
            ["10.9.9.9", "10.0.0.1/24 (eth1)"],
        ),
        (Method::POST, "/clients", Some(with("address", json!("10.0.0.1"))), ["10.0.0.1", "not ours"]),
        (Method::POST, "/clients", Some(with("menu", json!("absent"))), ["absent", "default.ipxe"]),
        (Method::POST, "/clients", Some(with("boot_program", json!("x.efi"))), ["x.efi", "files"]),
        (Method::POST, "/clients", Some(json!({ "nonsense": 1 })), ["missing field", "name"]),
    ] {
        let message = all.refused(method, path, body.as_ref()).await;
        for word in words {
            assert!(message.contains(word), "{path}: wants {word:?}: {message}");
        }
    }
    let absent = all.import_file(&all.directory.path().join("absent.raw"), "absent").await;
    let ImportLine::Failed(problem) = absent else { panic!("took in nothing") };
    assert!(problem.error.contains("absent.raw"), "{problem:?}");
}

#[tokio::test]
async fn explain_changes_nothing_and_shows_no_secret() {
    let all = Fixture::start();
    all.import("debian", 1).await;
    all.add(&testing::client()).await.unwrap();
    let explanation: Explanation = all.daemon.get(&format!("/explain/{MAC}")).await.unwrap();
    let disk = explanation.disk.unwrap();
    assert_eq!(disk.target, "iqn.2026-01.internal.lab.srv:debian:pc1:<next>");
    let script = explanation.script.unwrap().text.unwrap();
    assert!(script.contains(&disk.target) && script.contains("password ****"), "{script}");
    assert_eq!(explanation.cases.len(), 3);
    assert!(explanation.cases.iter().all(|case| case.address == Some([10, 0, 0, 7].into())));
    assert!(all.state.engine.list().is_empty() && all.state.boots.lock().machines().count() == 0);

    assert!(explanation.path.is_none(), "it was sent packets, and nobody asked for that");

    let stranger: Explanation = all.daemon.get("/explain/52:54:00:77:00:99").await.unwrap();
    assert!(stranger.disk.is_none() && stranger.script.is_none());
    assert!(stranger.cases[0].why.iter().any(|why| why.contains("bootd client add")), "{stranger:?}");
}

#[tokio::test]
async fn what_can_not_be_asked_about_the_way_to_a_machine_is_said() {
    let all = Fixture::start();
    all.import("debian", 1).await;
    all.add(&testing::client()).await.unwrap();
    // There is no socket for it here.
    for (machine, address, words) in [
        (MAC.to_string(), Some([10, 0, 0, 7].into()), "can't be asked which packets reach 10.0.0.7"),
        ("52:54:00:77:00:99".to_owned(), None, "address is not known"),
    ] {
        let explanation: Explanation =
            all.daemon.get(&format!("/explain/{machine}?probe=true")).await.unwrap();
        let path = explanation.path.unwrap();
        assert!(path.address == address && path.report.is_none() && path.text.contains(words), "{path:?}");
    }
}

#[tokio::test]
async fn a_boot_is_seen_in_status_and_a_removed_client_loses_its_disk() {
    let all = Fixture::start();
    all.import("debian", 1).await;
    all.add(&testing::client()).await.unwrap();
    let script = boot::script(&all.state, &all.state.links[0], MAC, [10, 0, 0, 7].into()).await.unwrap();
    let login: boot::Login = serde_json::from_str(&all.state.engine.list()[0].request.note).unwrap();
    assert!(script.contains(&login.target) && script.contains(&login.secret), "{script}");

    let status: Status = all.daemon.get("/status?client=pc1").await.unwrap();
    let boot = status.clients[0].boot.as_ref().unwrap();
    assert!(login.target.ends_with(&boot.epoch), "{boot:?}");
    assert_eq!(status.clients[0].disk.as_ref().unwrap().image, "debian");
    assert!(!serde_json::to_string(&status).unwrap().contains(&login.secret), "a secret in the status");

    all.daemon.call::<Value>(Method::DELETE, "/clients/pc1", NOTHING).await.unwrap();
    assert!(all.state.engine.list().is_empty());
}

#[tokio::test]
async fn a_script_in_the_making_leaves_no_disk_of_a_removed_client() {
    let all = Fixture::start();
    all.import("debian", 1).await;
    all.add(&testing::client()).await.unwrap();
    boot::script(&all.state, &all.state.links[0], MAC, [10, 0, 0, 7].into()).await.unwrap();
    let booted = all.state.engine.list().remove(0).request;
    let turn = all.state.script_turns.of(MAC).lock().await;
    let late = async {
        wait_for("the client's end", || all.state.site.load().client_by_mac(MAC).is_none()).await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        all.state.engine.attach(lvm::DiskRequest { epoch: booted.epoch + 1, ..booted }).unwrap();
        drop(turn);
    };
    let (removed, ()) = tokio::join!(all.daemon.call::<Value>(Method::DELETE, "/clients/pc1", NOTHING), late);
    removed.unwrap();
    assert!(all.state.engine.list().is_empty());
}

#[tokio::test]
async fn an_image_used_in_place_is_the_admins_wherever_it_lies() {
    let all = Fixture::start();
    let file = all.state.config.images().join("golden.raw");
    std::fs::write(&file, vec![1; 1 << 20]).unwrap();
    let request = ImportRequest { name: "golden".parse().unwrap(), file: file.clone(), in_place: true };
    all.daemon.lines("/images", &request, |_: ImportLine| Ok(())).await.unwrap();
    let ImportLine::Done { image: copied, .. } = all.import("debian", 2).await else { panic!("not added") };
    for name in ["golden", "debian"] {
        all.daemon.call::<Value>(Method::DELETE, &format!("/images/{name}"), NOTHING).await.unwrap();
    }
    assert!(file.exists(), "the admin's file is gone");
    assert!(!copied.path.exists(), "our copy is still there");
}

/// Waits until `there` says so.
async fn wait_for(what: &str, there: impl Fn() -> bool) {
    for _ in 0..100 {
        if there() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{what}: not within 5 s");
}

#[tokio::test]
async fn edits_of_other_processes_are_found() {
    let all = Fixture::start();
    let other = Store::open(&app::location(&all.state.config)).unwrap();
    other.add_client(&Client { image: None, ..testing::client() }, &Author::default()).unwrap();
    wait_for("the client", || all.state.site.load().client_by_mac(MAC).is_some()).await;
}

#[tokio::test]
async fn templates_are_read_again_and_a_wrong_one_changes_nothing() {
    let all = Fixture::start();
    let has = |name: &str| all.state.menus.load().names().contains(&name);
    let template = all.state.config.menus().join("lab.ipxe.tera");
    std::fs::write(&template, "#!ipxe\n").unwrap();
    wait_for("the template", || has("lab.ipxe.tera")).await;
    std::fs::write(&template, "{% nonsense").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert!(has("lab.ipxe.tera"), "a wrong template took the others with it");
    std::fs::remove_file(&template).unwrap();
    wait_for("the template's end", || !has("lab.ipxe.tera")).await;
}

#[tokio::test]
async fn without_a_daemon_the_error_names_the_socket_and_how_to_start_one() {
    let all = Fixture::start();
    all.stop.cancel();
    all.running.await.unwrap().unwrap();
    let message = all.daemon.get::<Value>("/status").await.unwrap_err().to_string();
    assert!(message.contains("bootd.sock") && message.contains("bootd serve"), "{message}");
}

#[tokio::test]
async fn a_text_is_rendered_as_its_client_would_get_it_and_says_from_where() {
    let all = Fixture::start();
    all.import("debian", 1).await;
    all.add(&testing::client()).await.unwrap();
    let render = |file: &str| {
        let path = format!("/render?file={file}&client=pc1");
        let daemon = &all.daemon;
        async move { daemon.get::<Rendering>(&path).await.map_err(|failure| failure.to_string()) }
    };
    let script = render("script.ipxe").await.unwrap();
    assert_eq!((script.name.as_str(), script.file.as_str()), ("default.ipxe", "default.ipxe.tera"));
    assert!(script.shipped && script.masked && script.instance == "all");
    assert!(script.text.contains("set password ****************\n"), "{}", script.text);
    assert_eq!(render("default.ipxe").await.unwrap().text, script.text, "by its template's name");
    assert!(all.state.boots.lock().current(MAC).is_none(), "to ask begins no boot");

    let own = [
        ("menu.tera", "of all"),
        ("menu.for/pc1@host_client.tera", "{{ client.name }} from {{ boot.target }}"),
        ("secret.tera", "\n{{ boot.secret }}"),
    ];
    let own = own.map(|(name, text)| (name.to_owned(), text.to_owned()));
    all.state.menus.store(Arc::new(menus::Menus::new(own.to_vec()).unwrap()));
    let menu = render("menu").await.unwrap();
    assert_eq!(
        (menu.file.as_str(), menu.instance.as_str()),
        ("menu.for/pc1@host_client.tera", "pc1@host_client")
    );
    assert!(!menu.shipped && !menu.masked);
    assert!(menu.text.starts_with("pc1 from iqn.") && menu.text.ends_with("<next>"), "{}", menu.text);
    let error = render("secret").await.unwrap_err();
    assert!(error.contains("secret.tera:2:") && error.contains("pc1"), "{error}");
    let error = render("absent").await.unwrap_err();
    assert!(error.contains("there is no template absent") && error.contains("menu"), "{error}");

    // A boot that runs is told of, but for its secret.
    testing::lease(&all.state, [10, 0, 0, 7].into());
    let script = boot::script(&all.state, &all.state.links[0], MAC, [10, 0, 0, 7].into()).await.unwrap();
    let target = all.state.targets.login_of(MAC).unwrap().target;
    assert!(script.contains(&target));
    assert_eq!(render("menu").await.unwrap().text, format!("pc1 from {target}"));

    let off = json!({ "enabled": false });
    all.daemon.call::<Value>(Method::PATCH, "/clients/pc1", Some(&off)).await.unwrap();
    let error = render("menu").await.unwrap_err();
    assert!(error.contains("disabled"), "{error}");
    let script = render("script.ipxe").await.unwrap();
    assert!(script.file == "nodisk.ipxe.tera" && script.text.contains("disabled"), "{}", script.text);
    let unknown = all.refused(Method::GET, "/render?file=menu&client=pc9", None).await;
    assert!(unknown.contains("pc9"), "{unknown}");
}
