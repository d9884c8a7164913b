//! Mirrors against upstreams that are down, slow, short, wrong and gone.

mod resume;

use std::collections::HashMap;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use netboot::{Asked, parse_tftp_path};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

use super::upstream::Url;
use super::*;
use crate::state::Counters;

/// A file of an upstream, and what the upstream does with it.
#[derive(Clone)]
struct Page {
    body: Vec<u8>,
    /// Lines of its head, beside `Content-Length`.
    lines: Vec<String>,
    status: &'static str,
    /// How much of the body comes before the upstream waits for [`Server::go_on`], or breaks off.
    pause: Option<usize>,
    breaks_off: bool,
    no_length: bool,
    /// Whether a piece of it can be had.
    ranges: bool,
}

fn page(body: &[u8]) -> Page {
    Page {
        body: body.to_vec(),
        lines: Vec::new(),
        status: "200 OK",
        pause: None,
        breaks_off: false,
        no_length: false,
        ranges: false,
    }
}

/// An upstream on an address of its own.
struct Server {
    port: u16,
    pages: Arc<Mutex<HashMap<String, Page>>>,
    asked: Arc<Mutex<Vec<String>>>,
    /// What `Range` and `If-Range` said of each request.
    ranges: Arc<Mutex<Vec<String>>>,
    go_on: Arc<Notify>,
    down: Arc<AtomicBool>,
    open: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            pages: Arc::default(),
            asked: Arc::default(),
            ranges: Arc::default(),
            go_on: Arc::default(),
            down: Arc::default(),
            open: Arc::default(),
        };
        let (pages, asked, go_on) = (server.pages.clone(), server.asked.clone(), server.go_on.clone());
        let (down, open, ranges) = (server.down.clone(), server.open.clone(), server.ranges.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if down.load(Ordering::Relaxed) {
                    continue;
                }
                let (pages, asked, go_on, open) = (pages.clone(), asked.clone(), go_on.clone(), open.clone());
                let ranges = ranges.clone();
                tokio::spawn(async move {
                    open.fetch_add(1, Ordering::Relaxed);
                    let _ = answer(stream, &pages, &asked, &ranges, &go_on).await;
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        server
    }

    fn put(&self, path: &str, page: Page) {
        self.pages.lock().insert(path.to_owned(), page);
    }

    /// How often `path` was asked for.
    fn asked(&self, path: &str) -> usize {
        self.asked.lock().iter().filter(|asked| *asked == path).count()
    }

    /// Waits until it was asked so often.
    async fn wait_for_requests(&self, times: usize) {
        while self.asked.lock().len() < times {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            name: "lab".into(),
            base: Url::parse(&format!("http://127.0.0.1:{}/pub/", self.port)).unwrap(),
            lists: vec![],
            pinned: HashMap::new(),
            strict: false,
            redirects: vec![],
            fresh: Duration::from_secs(300),
            silence: Duration::from_secs(60),
        }
    }
}

async fn answer(
    mut stream: TcpStream,
    pages: &Mutex<HashMap<String, Page>>,
    asked: &Mutex<Vec<String>>,
    ranges: &Mutex<Vec<String>>,
    go_on: &Notify,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let said = |name: &str| {
        let value = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix(name).map(|_| line[name.len()..].to_owned()));
        value.unwrap_or_default()
    };
    let (range, version) = (said("range: "), said("if-range: "));
    asked.lock().push(path.clone());
    ranges.lock().push(if range.is_empty() { String::new() } else { format!("{range} {version}") });
    let Some(page) = pages.lock().get(&path).cloned() else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    };
    let tag = page.lines.iter().find_map(|line| line.strip_prefix("ETag: "));
    if tag.is_some_and(|tag| head.to_lowercase().contains(&format!("if-none-match: {tag}").to_lowercase())) {
        return stream.write_all(b"HTTP/1.1 304 Not Modified\r\n\r\n").await;
    }
    let is_it = version.is_empty() || tag == Some(version.as_str());
    let from = range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-')?.parse().ok());
    let from = from.filter(|_| page.ranges && is_it).unwrap_or(0);
    let status = if from > 0 { "206 Partial Content" } else { page.status };
    let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    if !page.no_length {
        text += &format!("Content-Length: {}\r\n", page.body.len() - from);
    }
    if from > 0 {
        text += &format!("Content-Range: bytes {from}-{}/{}\r\n", page.body.len() - 1, page.body.len());
    }
    for line in &page.lines {
        text += &format!("{line}\r\n");
    }
    stream.write_all(format!("{text}\r\n").as_bytes()).await?;
    let body = &page.body[from..];
    let first = page.pause.unwrap_or(body.len()).min(body.len());
    stream.write_all(&body[..first]).await?;
    if page.pause.is_some() && !page.breaks_off {
        go_on.notified().await;
        stream.write_all(&body[first..]).await?;
    }
    Ok(())
}

fn mirrors(limit: u64) -> (Arc<Mirrors>, TempDir, mpsc::Receiver<Event>) {
    let place = tempfile::tempdir().unwrap();
    let (events, told) = Events::new(Arc::new(Counters::default()));
    (Arc::new(Mirrors::open(place.path().join("mirror"), limit, events)), place, told)
}

fn path(name: &str) -> FilePath {
    match parse_tftp_path(name) {
        Asked::File(path) => path,
        other => panic!("{other:?}"),
    }
}

/// All of a file, when it is there.
async fn whole(mirrors: &Mirrors, upstream: &Upstream, name: &str) -> Result<Vec<u8>, MirrorError> {
    let mut content = Vec::new();
    match mirrors.get(upstream, &path(name)).await? {
        Got::Stored(mut stored) => {
            stored.file.read_to_end(&mut content).unwrap();
        }
        Got::Arriving { file, len, mut flight } => {
            let ended = flight.wait_for(|phase| matches!(phase, Phase::Stored | Phase::Failed(_))).await;
            if let Phase::Failed(e) = &*ended.unwrap() {
                return Err(e.clone());
            }
            content.resize(usize::try_from(len).unwrap(), 0);
            file.read_exact_at(&mut content, 0).unwrap();
        }
    }
    Ok(content)
}

fn sum(content: &[u8]) -> Sum {
    Sha256::digest(content).into()
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

#[tokio::test]
async fn a_hundred_clients_at_once_are_one_request() {
    let server = Server::start().await;
    let (mirrors, _place, _told) = mirrors(1 << 30);
    let body = content(3_000_000);
    server.put("/pub/linux", Page { pause: Some(100_000), ..page(&body) });
    let upstream = server.upstream();
    let clients: Vec<_> = (0..100)
        .map(|_| {
            let (mirrors, upstream) = (Arc::clone(&mirrors), upstream.clone());
            tokio::spawn(async move { whole(&mirrors, &upstream, "linux").await.unwrap() })
        })
        .collect();
    // The first bytes are there for all of them before the last have come.
    let Got::Arriving { len, mut flight, .. } = mirrors.get(&upstream, &path("linux")).await.unwrap() else {
        panic!("stored already");
    };
    assert_eq!(len, 3_000_000);
    flight.wait_for(|phase| matches!(phase, Phase::Arriving { written: 100_000, .. })).await.unwrap();
    server.go_on.notify_one();
    for client in clients {
        assert!(client.await.unwrap() == body);
    }
    assert_eq!(server.asked("/pub/linux"), 1);
    assert!(whole(&mirrors, &upstream, "linux").await.unwrap() == body);
    assert_eq!(server.asked("/pub/linux"), 1, "what is stored is not asked for");
    let (_, known, _) = mirrors.all().remove(0);
    assert_eq!((known.size, known.verified), (3_000_000, false));
}

#[tokio::test]
async fn a_wrong_sum_is_never_stored_and_a_right_one_is_told() {
    let server = Server::start().await;
    let (mirrors, place, mut told) = mirrors(1 << 30);
    server.put("/pub/linux", page(b"not what it should be"));
    let mut upstream = server.upstream();
    upstream.pinned.insert("linux".into(), sum(b"what it should be"));
    let error = whole(&mirrors, &upstream, "linux").await.unwrap_err();
    assert!(matches!(error, MirrorError::Sum { .. }) && error.status() == 502, "{error}");
    assert!(mirrors.all().is_empty());
    let left = std::fs::read_dir(place.path().join("mirror/lab")).unwrap().count();
    assert_eq!(left, 0, "half a file is left");
    assert!(matches!(told.recv().await, Some(Event::Trouble { what, .. }) if what.contains("SHA-256")));

    server.put("/pub/linux", page(b"what it should be"));
    assert_eq!(whole(&mirrors, &upstream, "linux").await.unwrap(), b"what it should be");
    assert!(mirrors.all()[0].1.verified);
    // Another sum than that of what is stored: another version is wanted.
    upstream.pinned.insert("linux".into(), sum(b"the next version"));
    server.put("/pub/linux", page(b"the next version"));
    assert_eq!(whole(&mirrors, &upstream, "linux").await.unwrap(), b"the next version");
    // And if that can't be had, the earlier one is not served in its place.
    upstream.pinned.insert("linux".into(), sum(b"a later version"));
    server.down.store(true, Ordering::Relaxed);
    assert!(whole(&mirrors, &upstream, "linux").await.is_err());
}

#[tokio::test]
async fn lists_of_sums_at_the_upstream_are_kept_to() {
    let server = Server::start().await;
    let (mirrors, _place, _told) = mirrors(1 << 30);
    let list = format!(
        "{}  ./netboot/linux\n{}  ./netboot/initrd.gz\n",
        sums::show_sum(&sum(b"kernel")),
        "0".repeat(64)
    );
    server.put("/pub/images/SHA256SUMS", page(list.as_bytes()));
    server.put("/pub/images/netboot/linux", page(b"kernel"));
    server.put("/pub/images/netboot/initrd.gz", page(b"initrd"));
    server.put("/pub/images/README", page(b"read me"));
    server.put("/pub/pool/x.deb", page(b"package"));
    let mut upstream = server.upstream();
    upstream.lists = vec!["images/SHA256SUMS".into()];
    assert_eq!(whole(&mirrors, &upstream, "images/netboot/linux").await.unwrap(), b"kernel");
    assert!(mirrors.known("lab", "images/netboot/linux").unwrap().verified);
    assert!(matches!(
        whole(&mirrors, &upstream, "images/netboot/initrd.gz").await,
        Err(MirrorError::Sum { .. })
    ));
    assert_eq!(whole(&mirrors, &upstream, "images/README").await.unwrap(), b"read me");
    assert_eq!(whole(&mirrors, &upstream, "pool/x.deb").await.unwrap(), b"package");
    assert_eq!(server.asked("/pub/images/SHA256SUMS"), 1);
    upstream.strict = true;
    let error = whole(&mirrors, &upstream, "pool/x.deb").await.unwrap_err();
    assert!(matches!(error, MirrorError::NoSum { .. }) && error.status() == 403, "{error}");
    upstream.lists = vec!["images/README".into()];
    assert!(whole(&mirrors, &upstream, "images/netboot/linux").await.is_err(), "a list without sums");
}

#[tokio::test]
async fn what_is_stored_is_served_while_the_upstream_is_down() {
    let server = Server::start().await;
    let (mirrors, _place, _told) = mirrors(1 << 30);
    let upstream = Upstream { fresh: Duration::ZERO, ..server.upstream() };
    server.put("/pub/linux", Page { lines: vec!["ETag: \"v1\"".into()], ..page(b"one") });
    assert_eq!(whole(&mirrors, &upstream, "linux").await.unwrap(), b"one");
    assert_eq!(whole(&mirrors, &upstream, "linux").await.unwrap(), b"one", "304");
    assert_eq!(server.asked("/pub/linux"), 2);
    server.down.store(true, Ordering::Relaxed);
    assert_eq!(whole(&mirrors, &upstream, "linux").await.unwrap(), b"one", "down");
    server.down.store(false, Ordering::Relaxed);
    server.put("/pub/linux", Page { status: "503 Service Unavailable", ..page(b"later") });
    assert_eq!(whole(&mirrors, &upstream, "linux").await.unwrap(), b"one", "ailing");
    server.put("/pub/linux", Page { pause: Some(1), breaks_off: true, ..page(b"two") });
    // Who reads along notices that; who came after it had broken off gets what is stored.
    let broken = whole(&mirrors, &upstream, "linux").await;
    assert!(broken.is_err() || broken.is_ok_and(|content| content == b"one"), "broke off while it was sent");
    server.put("/pub/linux", Page { lines: vec!["ETag: \"v2\"".into()], ..page(b"two") });
    assert_eq!(whole(&mirrors, &upstream, "linux").await.unwrap(), b"two", "new");
    // What the upstream has no more is not served for ever.
    server.pages.lock().clear();
    assert!(matches!(whole(&mirrors, &upstream, "linux").await, Err(MirrorError::NotThere { .. })));
    // And what was never stored can't be had while it is down.
    server.down.store(true, Ordering::Relaxed);
    let error = whole(&mirrors, &upstream, "other").await.unwrap_err();
    assert_eq!(error.status(), 502, "{error}");
}

#[tokio::test]
async fn what_breaks_off_or_is_too_large_is_not_stored() {
    let server = Server::start().await;
    let (mirrors, _place, _told) = mirrors(1000);
    let upstream = server.upstream();
    server.put("/pub/short", Page { pause: Some(50), breaks_off: true, ..page(&content(100)) });
    let error = whole(&mirrors, &upstream, "short").await.unwrap_err();
    assert!(error.to_string().contains("broke off"), "{error}");
    server.put("/pub/large", page(&content(1001)));
    assert!(matches!(whole(&mirrors, &upstream, "large").await, Err(MirrorError::TooLarge { .. })));
    server.put("/pub/endless", Page { no_length: true, ..page(&content(5000)) });
    assert!(matches!(whole(&mirrors, &upstream, "endless").await, Err(MirrorError::TooLarge { .. })));
    assert!(mirrors.all().is_empty());
    // A length that is not said is no fault.
    server.put("/pub/unsaid", Page { no_length: true, ..page(&content(500)) });
    assert_eq!(whole(&mirrors, &upstream, "unsaid").await.unwrap(), content(500));
    // The next two push it out.
    for name in ["a", "b"] {
        server.put(&format!("/pub/{name}"), page(&content(400)));
        whole(&mirrors, &upstream, name).await.unwrap();
    }
    let names: Vec<_> = mirrors.all().into_iter().map(|(_, known, _)| known.path).collect();
    assert_eq!(names, ["a", "b"]);
}

#[tokio::test]
async fn redirections_are_followed_where_they_may_lead() {
    let (server, other) = (Server::start().await, Server::start().await);
    let (mirrors, _place, _told) = mirrors(1 << 30);
    let upstream = server.upstream();
    let to = |location: String| Page {
        status: "302 Found",
        lines: vec![format!("Location: {location}")],
        ..page(b"")
    };
    server.put("/pub/here", to("/elsewhere/linux".into()));
    server.put("/elsewhere/linux", page(b"kernel"));
    assert_eq!(whole(&mirrors, &upstream, "here").await.unwrap(), b"kernel");
    server.put("/pub/round", to("/pub/round".into()));
    assert!(whole(&mirrors, &upstream, "round").await.unwrap_err().to_string().contains("circles"));
    server.put("/pub/away", to(format!("http://127.0.0.1:{}/secret", other.port)));
    other.put("/secret", page(b"secret"));
    let error = whole(&mirrors, &upstream, "away").await.unwrap_err();
    assert!(matches!(error, MirrorError::Redirected { .. }), "{error}");
    assert_eq!(other.asked("/secret"), 0);
}

#[tokio::test]
async fn an_upstream_that_says_nothing_is_given_up() {
    let server = Server::start().await;
    let (mirrors, _place, _told) = mirrors(1 << 30);
    server.put("/pub/silent", Page { pause: Some(10), ..page(&content(100)) });
    let upstream = Upstream { silence: Duration::from_millis(200), ..server.upstream() };
    let error = whole(&mirrors, &upstream, "silent").await.unwrap_err();
    assert!(matches!(error, MirrorError::Silent { .. }) && error.status() == 504, "{error}");
    assert!(mirrors.all().is_empty());
    // The connection is let go of.
    server.go_on.notify_one();
    while server.open.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_end_what_others_wait_for() {
    let server = Server::start().await;
    let (mirrors, _place, _told) = mirrors(1 << 30);
    let body = content(300_000);
    server.put("/pub/linux", Page { pause: Some(1000), ..page(&body) });
    let upstream = server.upstream();
    let first = mirrors.get(&upstream, &path("linux")).await.unwrap();
    assert!(matches!(first, Got::Arriving { .. }));
    let second = {
        let (mirrors, upstream) = (Arc::clone(&mirrors), upstream.clone());
        tokio::spawn(async move { whole(&mirrors, &upstream, "linux").await.unwrap() })
    };
    drop(first);
    server.go_on.notify_one();
    assert!(second.await.unwrap() == body);
    assert_eq!(server.asked("/pub/linux"), 1);
}

#[tokio::test]
async fn what_was_dropped_is_fetched_again() {
    let server = Server::start().await;
    let (mirrors, _place, _told) = mirrors(1 << 30);
    for name in ["a", "b/c"] {
        server.put(&format!("/pub/{name}"), page(b"x"));
        whole(&mirrors, &server.upstream(), name).await.unwrap();
    }
    assert_eq!(mirrors.drop_stored("lab", Some("a")).unwrap().len(), 1);
    assert_eq!(mirrors.drop_stored("other", None).unwrap().len(), 0);
    assert_eq!(mirrors.all().len(), 1);
    whole(&mirrors, &server.upstream(), "a").await.unwrap();
    assert_eq!(server.asked("/pub/a"), 2);
    assert_eq!(mirrors.drop_stored("lab", None).unwrap().len(), 2);
}
