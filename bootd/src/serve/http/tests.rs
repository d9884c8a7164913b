//! Connections as clients see them, over loopback; and what fuzzing has found worth keeping of their heads.

#[path = "../../../../fuzz/src/http/mod.rs"]
#[allow(unreachable_pub, clippy::panic, reason = "the fuzz targets use this as a library")]
mod fuzzed;
#[path = "../../../../fuzz/src/replay.rs"]
#[allow(unreachable_pub, reason = "other crates' tests use it as well")]
mod replay;

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use netboot::{Asked, parse_http_path};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::connection::{Service, serve};
use super::head::{self, Head, HeadError};
use super::response::Response;
use super::{MAX_CONNECTIONS, MAX_CONNECTIONS_PER_PEER, Open, Visit};
use crate::events::Event;
use crate::mirror::{HELD_BACK, MirrorError, Phase};
use crate::serve::files::Files;
use crate::state::State;
use crate::testing;

/// Serves the files of a directory, and notes what it is told.
struct FileService {
    files: Files,
    told: Mutex<Vec<String>>,
}

impl Service for FileService {
    type Note = String;

    async fn answer(&self, head: &Head) -> (Response, String) {
        let response = match parse_http_path(&head.path) {
            Asked::File(path) => match self.files.fetch(&path) {
                Ok(file) => Response::fetched(file, path.as_str(), head),
                Err(e) => Response::refusal(404, &e.to_string()),
            },
            _ => Response::refusal(404, "there is no such file"),
        };
        (response, head.path.clone())
    }

    fn sent(&self, path: String, outcome: &io::Result<u64>) {
        let outcome = outcome.as_ref().map_or_else(|e| format!("{:?}", e.kind()), u64::to_string);
        self.told.lock().push(format!("{path} {outcome}"));
    }

    fn refused(&self, error: HeadError) {
        self.told.lock().push(error.to_string());
    }
}

struct Server {
    place: TempDir,
    service: Arc<FileService>,
    stop: CancellationToken,
    listener: TcpListener,
}

impl Server {
    async fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("hello"), "hello world").unwrap();
        fs::write(place.path().join("empty"), "").unwrap();
        let service = FileService { files: Files::find(place.path(), &[]), told: Mutex::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { place, service: Arc::new(service), stop: CancellationToken::new(), listener }
    }

    fn path(&self) -> &Path {
        self.place.path()
    }

    fn told(&self) -> Vec<String> {
        self.service.told.lock().clone()
    }

    /// A client's end of a connection, and the task that serves the other.
    async fn connect(&self) -> (TcpStream, JoinHandle<io::Result<()>>) {
        self.connect_to(Arc::clone(&self.service)).await
    }

    async fn connect_to(
        &self,
        service: Arc<impl Service + Send + 'static>,
    ) -> (TcpStream, JoinHandle<io::Result<()>>) {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = self.listener.accept().await.unwrap();
        let stop = self.stop.clone();
        (client, tokio::spawn(async move { serve(stream, &stop, service.as_ref()).await }))
    }

    /// What is answered to `request` until the connection is closed.
    async fn ask(&self, request: &str) -> String {
        self.ask_of(Arc::clone(&self.service), request).await
    }

    async fn ask_of(&self, service: Arc<impl Service + Send + 'static>, request: &str) -> String {
        let (mut client, served) = self.connect_to(service).await;
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(Duration::from_secs(100), client.read_to_string(&mut answer)).await.unwrap().unwrap();
        drop(client);
        served.await.unwrap().unwrap();
        answer
    }
}

/// One answer from a connection that stays open: its head, and a body of `len` bytes.
async fn read_answer(client: &mut TcpStream, len: usize) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(Duration::from_secs(10), client.read_u8()).await.unwrap().unwrap());
    }
    let mut body = vec![0; len];
    timeout(Duration::from_secs(10), client.read_exact(&mut body)).await.unwrap().unwrap();
    (String::from_utf8(head).unwrap(), body)
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let server = Server::new().await;
    let (mut client, served) = server.connect().await;
    client.write_all(b"HEAD /files//hello HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let (head, _) = read_answer(&mut client, 0).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("\r\nContent-Length: 11\r\n"), "{head}");

    // In pieces.
    for piece in ["GET /files/hel", "lo HTTP/1.1\r\nRange: by", "tes=-5\r\n", "\r", "\n"] {
        client.write_all(piece.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
    }
    let (head, body) = read_answer(&mut client, 5).await;
    assert!(
        head.starts_with("HTTP/1.1 206 ") && head.contains("\r\nContent-Range: bytes 6-10/11\r\n"),
        "{head}"
    );
    assert_eq!(body, b"world");

    // Both at once, the first without a body to send.
    client.write_all(b"GET /files/empty HTTP/1.1\r\n\r\nGET /files/absent HTTP/1.1\r\n\r\n").await.unwrap();
    let (head, _) = read_answer(&mut client, 0).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("\r\nContent-Length: 0\r\n"), "{head}");
    let (head, _) = read_answer(&mut client, "there is no such file\n".len()).await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");

    drop(client);
    served.await.unwrap().unwrap();
    assert_eq!(server.told(), ["/files//hello 0", "/files/hello 5", "/files/empty 0", "/files/absent 22"]);
}

#[tokio::test]
async fn a_large_file_arrives_whole_at_a_client_that_reads_slowly() {
    let server = Server::new().await;
    let content: Vec<u8> = (0..9_000_001_u32).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect();
    fs::write(server.path().join("large"), &content).unwrap();
    let (mut client, served) = server.connect().await;
    client.write_all(b"GET /files/large HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let mut piece = vec![0; 100_000];
    loop {
        let len = client.read(&mut piece).await.unwrap();
        if len == 0 {
            break;
        }
        answer.extend_from_slice(&piece[..len]);
        tokio::task::yield_now().await;
    }
    served.await.unwrap().unwrap();
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    assert!(answer[head..] == content, "{} bytes of {}", answer.len() - head, content.len());
    assert_eq!(server.told(), ["/files/large 9000001"]);
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_sent_ends_the_connection() {
    let server = Server::new().await;
    let path = server.path().join("shrinks");
    let len = 64 << 20;
    File::create(&path).unwrap().set_len(len).unwrap();
    let (mut client, served) = server.connect().await;
    client.write_all(b"GET /files/shrinks HTTP/1.1\r\n\r\n").await.unwrap();
    let (head, _) = read_answer(&mut client, 1).await;
    assert!(head.contains(&format!("Content-Length: {len}")), "{head}");
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    let mut rest = Vec::new();
    timeout(Duration::from_secs(20), client.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!((rest.len() as u64) < len);
    assert!(served.await.unwrap().is_err());
    assert_eq!(server.told(), ["/files/shrinks UnexpectedEof"]);
}

#[tokio::test]
async fn what_is_not_served_is_told_and_closed() {
    let server = Server::new().await;
    for (request, status, line) in [
        ("POST /files/hello HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405", "Allow: GET, HEAD"),
        ("GET /files/hello HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "413", "Connection: close"),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03", "400", "Connection: close"),
        ("GET / HTTP/1.0\r\n\r\n", "404", "Connection: close"),
    ] {
        let answer = server.ask(request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
        assert!(answer.contains(&format!("\r\n{line}\r\n")), "{request:?}: {answer}");
    }
    let answer = server.ask(&format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000))).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(server.told().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_in_is_given_up_and_an_idle_connection_is_closed() {
    let server = Server::new().await;
    let answer = server.ask("GET /files/hello HTTP/1.1\r\nHost:").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(server.ask("").await, "");
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_finishes_answers() {
    let server = Server::new().await;
    let (mut idle, idle_served) = server.connect().await;
    File::create(server.path().join("large")).unwrap().set_len(32 << 20).unwrap();
    let (mut busy, busy_served) = server.connect().await;
    busy.write_all(b"GET /files/large HTTP/1.1\r\n\r\n").await.unwrap();
    let (head, _) = read_answer(&mut busy, 1).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");

    server.stop.cancel();
    idle_served.await.unwrap().unwrap();
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
    let mut rest = Vec::new();
    timeout(Duration::from_secs(20), busy.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest.len() + 1, 32 << 20);
    busy_served.await.unwrap().unwrap();
}

/// A client whose script is asked for, from its own address or another.
fn visit(state: &Arc<State>, last: u8) -> Arc<Visit> {
    let peer = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, last), 1234);
    Arc::new(Visit { state: Arc::clone(state), link: 0, peer, making: Handle::current() })
}

#[tokio::test]
async fn a_script_is_made_for_its_own_client_and_only_when_it_is_really_asked_for() {
    let server = Server::new().await;
    let (state, _store, mut told) = testing::state(server.path());
    state.site.store(Arc::new(testing::site(server.path())));
    let counters = &state.counters;
    let request = |method: &str| {
        format!("{method} /boot/52-54-00-77-00-01/script.ipxe HTTP/1.1\r\nConnection: close\r\n\r\n")
    };

    let answer = server.ask_of(visit(&state, 8), &request("GET")).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("leased to no machine"), "{answer}");
    assert_eq!((counters.scripts_refused.get(), counters.scripts_rendered.get()), (1, 0));
    assert!(matches!(told.try_recv(), Ok(Event::Refused { .. })));

    let answer = server.ask_of(visit(&state, 7), &request("GET")).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "its own address, but not leased: {answer}");
    testing::lease(&state, [10, 0, 0, 7].into());

    let answer = server.ask_of(visit(&state, 7), &request("HEAD")).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert_eq!(counters.scripts_rendered.get(), 0);
    assert!(state.boots.lock().current(testing::MAC).is_none(), "asking for the head begins no boot");

    let answer = server.ask_of(visit(&state, 7), &request("GET")).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("\r\nCache-Control: no-store\r\n"),
        "{answer}"
    );
    assert!(answer.contains("\r\n\r\n#!ipxe"), "{answer}");
    assert_eq!(counters.scripts_rendered.get(), 1);
    assert_eq!(counters.http_requests.get(), 4);
}

#[tokio::test]
async fn a_client_that_may_not_boot_gets_no_files_and_others_do() {
    let server = Server::new().await;
    let (state, _store, _told) = testing::state(server.path());
    let mut client = testing::client();
    client.enabled = false;
    state.site.store(Arc::new(site::Site::new(1, vec![client], vec![])));
    fs::write(state.config.files().join("grub.efi"), "GRUB").unwrap();
    let request = "GET /files/grub.efi HTTP/1.0\r\n\r\n";
    let answer = server.ask_of(visit(&state, 7), request).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("disabled"), "{answer}");
    let answer = server.ask_of(visit(&state, 8), request).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nGRUB"), "{answer}");
}

#[tokio::test]
async fn a_template_is_rendered_for_whoever_asks_if_that_is_a_client_that_may_boot() {
    let server = Server::new().await;
    fs::create_dir_all(server.path().join("data/menus/pxelinux.cfg/default.for")).unwrap();
    let menu = |name: &str, text: &str| fs::write(server.path().join("data/menus").join(name), text).unwrap();
    menu("pxelinux.cfg/default.tera", "all");
    menu(
        "pxelinux.cfg/default.for/pc1@host_client.tera",
        "{{ self.mac }} {{ client.name }} at {{ boot.address }}",
    );
    menu("secret.tera", "{{ boot.secret }}");
    let (state, _store, mut told) = testing::state(server.path());
    state.site.store(Arc::new(testing::site(server.path())));
    // A template comes before a file of the same name.
    fs::write(state.config.files().join("secret"), "a file").unwrap();
    let get = |path: &str| format!("GET {path} HTTP/1.0\r\n\r\n");

    let menu = get("/files/pxelinux.cfg/default");
    let answer = server.ask_of(visit(&state, 8), &menu).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("leased to no machine"), "{answer}");
    let answer = server.ask_of(visit(&state, 7), &menu).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "its own address, but not leased: {answer}");
    testing::lease(&state, [10, 0, 0, 7].into());
    let answer = server.ask_of(visit(&state, 7), &menu).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n52:54:00:77:00:01 pc1 at 10.0.0.7"),
        "{answer}"
    );
    assert!(answer.contains("\r\nCache-Control: no-store\r\n"), "{answer}");
    let head = server.ask_of(visit(&state, 7), &menu.replace("GET", "HEAD")).await;
    assert!(head.contains("\r\nContent-Length: 33\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    // Nobody asks for another's instance.
    let answer = server.ask_of(visit(&state, 7), &get("/files/pxelinux.cfg/default.for/pc2@host.tera")).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");

    while told.try_recv().is_ok() {}
    let answer = server.ask_of(visit(&state, 7), &get("/files/secret")).await;
    assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("secret.tera:1:"), "{answer}");
    let event = told.try_recv().unwrap().to_string();
    assert!(event.contains("secret.tera:1:") && event.contains("pc1"), "{event}");
    // Nor while a boot runs whose secret it could tell.
    let script = get("/boot/52-54-00-77-00-01/script.ipxe");
    let answer = server.ask_of(visit(&state, 7), &script).await;
    assert!(answer.contains("set password "), "{answer}");
    let answer = server.ask_of(visit(&state, 7), &get("/files/secret")).await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");

    let mut client = testing::client();
    client.enabled = false;
    state.site.store(Arc::new(site::Site::new(2, vec![client], vec![])));
    let answer = server.ask_of(visit(&state, 7), &menu).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("disabled"), "{answer}");
}

#[tokio::test]
async fn a_client_gets_its_own_managed_files() {
    use site::entity::{Edit, Values};
    let server = Server::new().await;
    let (state, _store, mut told) = testing::state(server.path());
    let file = |name: &str, values: &[(&str, &[&str])]| {
        let entity: site::entity::EntityId = format!("file/{name}").parse().unwrap();
        let set = values.iter().map(|(variable, values)| Edit::Set {
            entity: entity.clone(),
            variable: variable.parse().unwrap(),
            values: values.iter().map(ToString::to_string).collect::<Values>(),
            expect: None,
        });
        std::iter::once(Edit::Create { entity: entity.clone() }).chain(set).collect::<Vec<_>>()
    };
    let instances = |instance, source| -> [(&'static str, [&'static str; 1]); 2] {
        [("instance", [instance]), ("source", [source])]
    };
    let mut edits = Vec::new();
    for (name, path, instance, source) in [
        ("motd", "/etc/motd", "all_client", "motd.tera"),
        ("logo", "/usr/share/logo", "pc1@host_client", "logo.png"),
        ("anothers", "/etc/x", "pc2@host_client", "motd.tera"),
        ("broken", "/etc/broken", "all", "absent.tera"),
    ] {
        let [instance, source] = instances(instance, source);
        edits.extend(file(name, &[("path", &[path]), (instance.0, &instance.1), (source.0, &source.1)]));
    }
    let (site, _) = testing::site(server.path()).edit(&edits).unwrap();
    state.site.store(Arc::new(site));
    let own = [("motd.tera".to_owned(), "{{ self.mac }} {{ client.name }}\n".to_owned())];
    state.menus.store(Arc::new(menus::Menus::new(own.to_vec()).unwrap()));
    fs::write(state.config.menus().join("logo.png"), [0x89, 0xff, 0, b'\n']).unwrap();
    let get = |path: &str| format!("GET {path} HTTP/1.0\r\n\r\n");

    let answer = server.ask_of(visit(&state, 7), &get("/client/files")).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("leased to no machine"), "{answer}");
    testing::lease(&state, [10, 0, 0, 7].into());
    while told.try_recv().is_ok() {}
    let answer = server.ask_of(visit(&state, 7), &get("/client/files")).await;
    let (head, list) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("Cache-Control: no-store"), "{head}");
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split('\t').collect()).collect();
    let [broken, logo, motd, end] = lines.as_slice() else { panic!("{list}") };
    assert!(broken[..2] == ["failed", "broken"] && broken[2].contains("absent.tera"), "{list}");
    assert!(told.try_recv().unwrap().to_string().contains("absent.tera"));
    assert_eq!((logo[1], &logo[3..]), ("logo", &["-", "644", "/usr/share/logo", "-"][..]));
    assert_eq!((motd[1], &motd[3..]), ("motd", &["-", "644", "/etc/motd", "-"][..]));
    assert_eq!(end, &["end", "2"]);

    let answer = server.ask_of(visit(&state, 7), &get("/client/files/motd")).await;
    assert!(answer.ends_with("\r\n\r\n52:54:00:77:00:01 pc1\n"), "{answer}");
    let (mut client, _served) = server.connect_to(visit(&state, 7)).await;
    client.write_all(b"GET /client/files/logo HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(read_answer(&mut client, 4).await.1, [0x89, 0xff, 0, b'\n']);
    for name in ["anothers", "absent", "..%2fx", "%00"] {
        let answer = server.ask_of(visit(&state, 7), &get(&format!("/client/files/{name}"))).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{name}: {answer}");
    }
    let answer = server.ask_of(visit(&state, 8), &get("/client/files/motd")).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    // The program holds nothing of anybody's.
    let answer = server.ask_of(visit(&state, 8), &get("/client/bootd-files.sh")).await;
    assert!(answer.contains("\r\n\r\n#!/bin/sh\n"), "{answer}");
}

#[test]
fn connections_are_bounded_for_each_client_and_in_all() {
    let open = Arc::new(Open::default());
    let peer = |n: usize| Ipv4Addr::from(0x0a00_0000 + n as u32);
    let mut places: Vec<_> = (0..MAX_CONNECTIONS_PER_PEER).map(|_| open.admit(peer(1)).unwrap()).collect();
    assert!(open.admit(peer(1)).is_none());
    while places.len() < MAX_CONNECTIONS {
        places.push(open.admit(peer(1 + places.len())).unwrap());
    }
    assert!(open.admit(peer(5000)).is_none());
    places.pop();
    assert!(open.admit(peer(5000)).is_some());
    drop(places);
    assert!(open.0.lock().is_empty());
}

/// Answers everything with a file that is still coming.
struct Coming {
    file: Arc<File>,
    len: u64,
    flight: watch::Receiver<Phase>,
}

impl Service for Coming {
    type Note = ();

    async fn answer(&self, head: &Head) -> (Response, ()) {
        (Response::arriving(self.file.clone(), self.len, self.flight.clone(), "linux", head), ())
    }

    fn sent(&self, _: (), _: &io::Result<u64>) {}

    fn refused(&self, error: HeadError) {
        panic!("{error}");
    }
}

impl Coming {
    /// A file of `content`, of which nothing is there yet as far as clients are told.
    fn of(content: &[u8]) -> (Arc<Self>, watch::Sender<Phase>) {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, content).unwrap();
        let (file, len) = (Arc::new(file), content.len() as u64);
        let (told, flight) = watch::channel(Phase::Arriving { file: Arc::clone(&file), len, written: 0 });
        (Arc::new(Self { file, len, flight }), told)
    }

    fn at(&self, written: u64) -> Phase {
        Phase::Arriving { file: Arc::clone(&self.file), len: self.len, written }
    }
}

#[tokio::test]
async fn a_file_that_is_still_coming_is_sent_as_it_comes_but_for_its_end() {
    let server = Server::new().await;
    let content: Vec<u8> = (0..300_000_u32).map(|i| (i ^ (i >> 8)) as u8).collect();
    let (coming, told) = Coming::of(&content);
    let (mut client, served) = server.connect_to(Arc::clone(&coming)).await;
    client
        .write_all(b"GET /x HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\nRange: bytes=299990-\r\n\r\n")
        .await
        .unwrap();
    let (head, _) = read_answer(&mut client, 0).await;
    assert!(head.contains("\r\nContent-Length: 300000\r\n"), "{head}");
    let there = content.len() - usize::try_from(HELD_BACK).unwrap();
    let mut body = vec![0; 100_000];
    told.send_replace(coming.at(100_000));
    timeout(Duration::from_secs(10), client.read_exact(&mut body)).await.unwrap().unwrap();
    // All of it has come, and nobody knows yet whether it is right.
    told.send_replace(coming.at(300_000));
    body.resize(there, 0);
    timeout(Duration::from_secs(10), client.read_exact(&mut body[100_000..])).await.unwrap().unwrap();
    let early = timeout(Duration::from_millis(100), client.read_u8()).await;
    assert!(early.is_err(), "the end was sent too early");
    told.send_replace(Phase::Stored);
    body.resize(content.len(), 0);
    timeout(Duration::from_secs(10), client.read_exact(&mut body[there..])).await.unwrap().unwrap();
    assert!(body == content);
    let (head, end) = read_answer(&mut client, 10).await;
    assert!(head.starts_with("HTTP/1.1 206 ") && end == content[299_990..], "{head}");
    drop(client);
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_file_that_turns_out_wrong_breaks_off_before_its_end() {
    let server = Server::new().await;
    let (coming, told) = Coming::of(&[7; 200_000]);
    let (mut client, served) = server.connect_to(Arc::clone(&coming)).await;
    client.write_all(b"GET /x HTTP/1.1\r\n\r\n").await.unwrap();
    told.send_replace(coming.at(200_000));
    told.send_replace(Phase::Failed(MirrorError::Busy));
    let mut answer = Vec::new();
    timeout(Duration::from_secs(10), client.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.len() < 200_000, "{} bytes", answer.len());
    assert!(served.await.unwrap().is_err());
}

#[test]
fn heads_of_the_fuzzers() {
    replay::replay("http_head", fuzzed::run);
}
