//! Transfers as clients see them, over loopback: the server is 127.0.0.1, the client 127.0.0.2.

use std::fs;

use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;

use super::*;
use crate::testing;

const SERVER: Ipv4Addr = Ipv4Addr::LOCALHOST;
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

struct Lab {
    place: TempDir,
    shared: Arc<Shared>,
    listener: Arc<Listener>,
    socket: StdSocket,
    told: Receiver<Event>,
}

impl Lab {
    fn new() -> Self {
        Self::with(Vec::new())
    }

    fn with(single_port: Vec<netboot::Subnet>) -> Self {
        let place = tempfile::tempdir().unwrap();
        let (state, _store, told) = testing::state(place.path());
        let mut state = Arc::into_inner(state).unwrap();
        state.config.single_port = single_port;
        state.links[0].interface.address = SERVER;
        state.links[0].interface.prefix_len = 8;
        let site = testing::site(place.path());
        let images = site.images().into_iter().map(|image| image.as_ref().clone()).collect();
        let mut client = testing::client();
        client.address = Some(CLIENT);
        state.site.store(Arc::new(site::Site::new(2, vec![client], images)));
        testing::lease(&state, CLIENT);
        let shared = Shared {
            state: Arc::new(state),
            running: Running::new(OWN),
            allowance: Allowance::new(BURST, PER_SECOND),
            transfers: TaskTracker::new(),
            engine: Engine::start().unwrap(),
        };
        let socket = StdSocket::bind((SERVER, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = Listener::new(0, &socket).unwrap();
        Self { place, shared: Arc::new(shared), listener, socket, told }
    }

    fn file(&self, name: &str, content: &[u8]) {
        fs::write(self.place.path().join("data/files").join(name), content).unwrap();
    }

    /// Hands `packet` to the server as if it had come to port 69 from `client`.
    fn send(&self, client: &UdpSocket, packet: &[u8]) -> Option<Vec<u8>> {
        let SocketAddr::V4(peer) = client.local_addr().unwrap() else { unreachable!() };
        self.shared.receive(&self.listener, packet, peer)
    }

    /// Listens, and says where.
    fn serve(&self) -> SocketAddr {
        let socket = UdpSocket::from_std(self.socket.try_clone().unwrap()).unwrap();
        tokio::spawn(serve(Arc::clone(&self.shared), Arc::clone(&self.listener), socket));
        self.socket.local_addr().unwrap()
    }

    /// All transfers over, what was told.
    async fn done(&mut self) -> Vec<String> {
        self.shared.transfers.close();
        timeout(Duration::from_secs(20), self.shared.transfers.wait()).await.unwrap();
        std::iter::from_fn(|| self.told.try_recv().ok()).map(|event| event.to_string()).collect()
    }
}

async fn client(address: Ipv4Addr) -> UdpSocket {
    UdpSocket::bind(SocketAddrV4::new(address, 0)).await.unwrap()
}

fn rrq(name: &str, options: &[&str]) -> Vec<u8> {
    let mut packet = vec![0, 1];
    for text in [name, "octet"].iter().chain(options) {
        packet.extend_from_slice(text.as_bytes());
        packet.push(0);
    }
    packet
}

async fn receive(client: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2000];
    let (len, from) = timeout(Duration::from_secs(10), client.recv_from(&mut buffer)).await.unwrap().unwrap();
    (buffer[..len].to_vec(), from)
}

/// Acknowledges blocks of 512 bytes until a shorter one, and puts them together.
async fn download(client: &UdpSocket) -> Vec<u8> {
    let mut content = Vec::new();
    let mut last = 0_u16;
    loop {
        let (packet, from) = receive(client).await;
        assert_eq!(from.ip(), SERVER);
        assert_ne!(from.port(), PORT);
        let [0, 3, high, low, data @ ..] = packet.as_slice() else { panic!("{packet:?}") };
        // On a busy machine we may be so slow that a block comes again.
        if u16::from_be_bytes([*high, *low]) != last + 1 {
            continue;
        }
        last += 1;
        content.extend_from_slice(data);
        client.send_to(&[0, 4, *high, *low], from).await.unwrap();
        if data.len() < 512 {
            return content;
        }
    }
}

fn error_code(packet: &[u8]) -> u8 {
    let [0, 5, 0, code, ..] = packet else { panic!("no ERROR: {packet:?}") };
    *code
}

#[tokio::test]
async fn a_file_arrives_whole_and_is_in_the_timeline() {
    let mut lab = Lab::new();
    let content: Vec<u8> = (0..100_000_u32).map(|i| (i ^ (i >> 8)) as u8).collect();
    lab.file("program.efi", &content);
    lab.shared.state.boots.lock().on_discover(testing::MAC, netboot::Stage::Firmware, 1);
    let client = client(CLIENT).await;
    assert_eq!(lab.send(&client, &rrq("program.efi", &[])), None);
    assert!(download(&client).await == content);
    let told = lab.done().await;
    assert!(told[0].contains("TFTP program.efi, 100000 bytes"), "{told:?}");
    assert_eq!(lab.shared.state.counters.tftp_completed.get(), 1);
}

#[tokio::test]
async fn uefis_question_for_the_length_is_no_failure() {
    let mut lab = Lab::new();
    lab.file("program.efi", &[1; 5000]);
    let client = client(CLIENT).await;
    lab.send(&client, &rrq("program.efi", &["tsize", "0", "blksize", "1468", "windowsize", "4"]));
    let (oack, from) = receive(&client).await;
    assert!(oack.starts_with(&[0, 6]) && oack.windows(10).any(|w| w == b"tsize\x005000"), "{oack:?}");
    client.send_to(b"\0\x05\0\x08User aborted the transfer\0", from).await.unwrap();
    assert_eq!(lab.done().await, Vec::<String>::new());
    assert_eq!(lab.shared.state.counters.tftp_failed.get(), 0);
}

#[tokio::test]
async fn the_same_request_again_is_answered_once_and_a_new_one_anew() {
    let lab = Lab::new();
    lab.file("one", b"first");
    lab.file("two", b"second");
    let client = client(CLIENT).await;
    lab.send(&client, &rrq("one", &[]));
    lab.send(&client, &rrq("one", &[]));
    let (first, from) = receive(&client).await;
    assert_eq!(first, b"\0\x03\0\x01first");
    let again = timeout(Duration::from_millis(200), client.recv_from(&mut [0; 600])).await;
    assert!(again.is_err(), "one answer: {again:?}");

    lab.send(&client, &rrq("two", &[]));
    let (second, new) = receive(&client).await;
    assert_eq!(second, b"\0\x03\0\x01second");
    assert_ne!(from, new);
}

#[tokio::test]
async fn refusals_say_why() {
    let mut lab = Lab::new();
    let own = client(CLIENT).await;
    let foreign = client(Ipv4Addr::new(127, 0, 0, 3)).await;
    let script = rrq("52-54-00-77-00-01/script.ipxe", &[]);
    for (client, request, code) in [
        (&own, rrq("absent.efi", &[]), 1),
        (&own, rrq("../data/site.db", &[]), 1),
        (&foreign, script.clone(), 2),
        (&foreign, rrq("autoexec.ipxe", &[]), 2),
    ] {
        assert_eq!(lab.send(client, &request), None);
        assert_eq!(error_code(&receive(client).await.0), code, "{}", request.escape_ascii());
    }
    let write = lab.send(&own, b"\0\x02file\0octet\0").unwrap();
    assert_eq!(error_code(&write), 2);
    assert_eq!(lab.send(&own, b"\0\x05\0\0never answer an error\0"), None);
    assert_eq!(lab.send(&own, b""), None);
    let counters = &lab.shared.state.counters;
    assert_eq!((counters.scripts_refused.get(), counters.tftp_malformed.get()), (2, 3));
    assert!(lab.done().await.iter().any(|told| told.contains("leased to no machine")));
}

#[tokio::test]
async fn a_script_comes_over_tftp_to_the_client_that_it_is_for() {
    let mut lab = Lab::new();
    let client = client(CLIENT).await;
    lab.send(&client, &rrq("52-54-00-77-00-01/script.ipxe", &["blksize", "1432", "tsize", "0"]));
    let (oack, from) = receive(&client).await;
    assert_eq!(oack, b"\0\x06blksize\x00512\0");
    assert_eq!(lab.shared.state.counters.scripts_rendered.get(), 0, "the client may not be where it says");
    client.send_to(&[0, 4, 0, 0], from).await.unwrap();
    let script = String::from_utf8(download(&client).await).unwrap();
    assert!(script.starts_with("#!ipxe") && script.contains("sanboot"), "{script}");
    assert_eq!(lab.shared.state.counters.scripts_rendered.get(), 1);
    lab.done().await;
}

#[tokio::test(start_paused = true)]
async fn a_forged_request_for_a_script_makes_no_disk() {
    let mut lab = Lab::new();
    let client = client(CLIENT).await;
    lab.send(&client, &rrq("52-54-00-77-00-01/script.ipxe", &[]));
    assert_eq!(error_code(&receive(&client).await.0), 2, "no options, no proof");
    lab.send(&client, &rrq("52-54-00-77-00-01/script.ipxe", &["blksize", "1432"]));
    lab.done().await;
    assert_eq!(lab.shared.state.counters.scripts_rendered.get(), 0);
    assert!(lab.shared.state.boots.lock().current(testing::MAC).is_none());
}

#[tokio::test]
async fn a_script_that_makes_no_disk_needs_no_proof() {
    let mut lab = Lab::new();
    let client = client(CLIENT).await;
    lab.send(&client, &rrq("snponly/autoexec.ipxe", &[]));
    let script = String::from_utf8(download(&client).await).unwrap();
    assert!(
        script.starts_with("#!ipxe") && script.contains("/boot/52-54-00-77-00-01/script.ipxe"),
        "{script}"
    );
    lab.done().await;
}

#[tokio::test]
async fn a_template_is_rendered_for_the_client_that_asks_and_its_length_is_told() {
    let mut lab = Lab::new();
    let own = [
        ("pxelinux.cfg/default", "<Template>DEFAULT <self/></Template>"),
        ("pxelinux.cfg/default.for/pc2@host_client", "<Template>another's</Template>"),
        ("broken.tera", "\n{{ self.kernel }}"),
    ];
    let own = own.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec();
    lab.shared.state.menus.store(Arc::new(menus::Menus::new(own).unwrap()));
    let (own, foreign) = (client(CLIENT).await, client(Ipv4Addr::new(127, 0, 0, 3)).await);
    let menu = rrq("/pxelinux.cfg/default", &["tsize", "0", "blksize", "1408"]);
    lab.send(&own, &menu);
    let (oack, from) = receive(&own).await;
    assert!(oack.windows(8).any(|w| w == b"tsize\x0011"), "{}", oack.escape_ascii());
    own.send_to(&[0, 4, 0, 0], from).await.unwrap();
    assert_eq!(download(&own).await, b"DEFAULT pc1");
    lab.send(&foreign, &menu);
    assert_eq!(error_code(&receive(&foreign).await.0), 2);
    lab.send(&own, &rrq("broken", &[]));
    let (error, _) = receive(&own).await;
    assert!(
        error_code(&error) == 0 && error.windows(14).any(|w| w == b"broken.tera:2:"),
        "{}",
        error.escape_ascii()
    );
    assert!(lab.done().await.iter().any(|told| told.contains("broken.tera:2:") && told.contains("pc1")));
}

#[tokio::test]
async fn a_closed_port_ends_a_transfer_at_once() {
    let mut lab = Lab::new();
    lab.file("large", &[0; 100_000]);
    let client = client(CLIENT).await;
    lab.send(&client, &rrq("large", &[]));
    let (_, from) = receive(&client).await;
    client.send_to(&[0, 4, 0, 1], from).await.unwrap();
    receive(&client).await;
    client.send_to(&[0, 4, 0, 2], from).await.unwrap();
    drop(client);
    lab.done().await;
    assert_eq!(lab.shared.state.counters.tftp_failed.get(), 1);
}

#[tokio::test]
async fn who_takes_packets_of_the_port_that_it_asked_only_is_answered_from_there() {
    let mut lab = Lab::with(vec!["127.0.0.2/32".parse().unwrap()]);
    let content: Vec<u8> = (0..100_000_u32).map(|i| (i ^ (i >> 8)) as u8).collect();
    lab.file("program.efi", &content);
    lab.file("other.efi", b"another");
    let at = lab.serve();
    let (one, other, elsewhere) =
        (client(CLIENT).await, client(CLIENT).await, client(Ipv4Addr::new(127, 0, 0, 3)).await);
    // Windows, whose blocks leave in one call.
    one.send_to(&rrq("program.efi", &["blksize", "1000", "windowsize", "16"]), at).await.unwrap();
    let (oack, from) = receive(&one).await;
    assert!(oack.starts_with(&[0, 6]) && from == at, "{from}");
    // What others say of it, from other ports or addresses, is not taken for its client's.
    for stranger in [&other, &elsewhere] {
        stranger.send_to(b"\0\x05\0\0stop\0", at).await.unwrap();
        stranger.send_to(&[0, 4, 0, 1], at).await.unwrap();
    }
    one.send_to(&[0, 4, 0, 0], at).await.unwrap();
    let (mut got, mut block) = (Vec::new(), 0_u16);
    while got.len() < content.len() {
        let (packet, from) = receive(&one).await;
        assert_eq!(from, at);
        let [0, 3, high, low, data @ ..] = packet.as_slice() else { panic!("{packet:?}") };
        if u16::from_be_bytes([*high, *low]) == block + 1 {
            got.extend_from_slice(data);
            block += 1;
        }
        if block % 16 == 0 {
            one.send_to(&[0, 4, *high, *low], at).await.unwrap();
        }
    }
    assert!(got == content, "other bytes");

    // It begins anew before it has said that it has everything, and what is missing is missing from there, too.
    one.send_to(&rrq("other.efi", &[]), at).await.unwrap();
    loop {
        let (packet, from) = receive(&one).await;
        assert_eq!(from, at);
        if packet == b"\0\x03\0\x01another" {
            break;
        }
    }
    one.send_to(&[0, 4, 0, 1], at).await.unwrap();
    other.send_to(&rrq("absent.efi", &[]), at).await.unwrap();
    let (packet, from) = receive(&other).await;
    assert_eq!((error_code(&packet), from), (1, at));

    // Whom the site does not name is answered as ever.
    elsewhere.send_to(&rrq("other.efi", &[]), at).await.unwrap();
    let (packet, from) = receive(&elsewhere).await;
    assert_eq!(packet, b"\0\x03\0\x01another");
    assert_ne!(from, at);
    elsewhere.send_to(&[0, 4, 0, 1], from).await.unwrap();
    lab.done().await;
    let counters = &lab.shared.state.counters;
    // Only the stranger's two packets are no requests, as ever; the others' are nobody's.
    assert_eq!((counters.tftp_malformed.get(), counters.tftp_completed.get()), (2, 2));
}

#[tokio::test]
async fn what_goes_from_the_port_that_was_asked_goes_on_when_the_service_stops() {
    let lab = Lab::with(vec!["0.0.0.0/0".parse().unwrap()]);
    lab.file("program.efi", &[7; 2000]);
    let (state, at) = (&lab.shared.state, lab.socket.local_addr().unwrap());
    let stop = CancellationToken::new();
    let service = Tftp { sockets: vec![(0, lab.socket.try_clone().unwrap())] };
    let running = tokio::spawn(service.run(Arc::clone(state), stop.clone()));
    let client = client(CLIENT).await;
    client.send_to(&rrq("program.efi", &[]), at).await.unwrap();
    assert_eq!(receive(&client).await.1, at);
    stop.cancel();
    // The first block comes again after a second.
    assert_eq!(download(&client).await, [7; 2000]);
    running.await.unwrap().unwrap();
    assert_eq!(state.counters.tftp_completed.get(), 1);
}

#[tokio::test]
async fn what_needs_proof_is_proved_by_a_port_that_nobody_else_knows() {
    let mut lab = Lab::with(vec!["0.0.0.0/0".parse().unwrap()]);
    let at = lab.serve();
    let client = client(CLIENT).await;
    client.send_to(&rrq("52-54-00-77-00-01/script.ipxe", &["blksize", "1432"]), at).await.unwrap();
    let (oack, from) = receive(&client).await;
    assert_eq!(oack, b"\0\x06blksize\x00512\0");
    assert_ne!(from, at);
    // Anybody could have said that.
    client.send_to(&[0, 4, 0, 0], at).await.unwrap();
    assert_eq!(receive(&client).await, (oack, from), "it was taken for a proof");
    assert_eq!(lab.shared.state.counters.scripts_rendered.get(), 0);
    client.send_to(&[0, 4, 0, 0], from).await.unwrap();
    let script = download(&client).await;
    assert!(script.starts_with(b"#!ipxe"), "{}", script.escape_ascii());
    lab.done().await;
}

#[tokio::test]
async fn more_requests_than_allowed_are_dropped() {
    let lab = Lab::new();
    let client = client(CLIENT).await;
    for _ in 0..2 * BURST {
        lab.send(&client, b"junk");
    }
    let counters = &lab.shared.state.counters;
    assert!(counters.tftp_malformed.get() >= BURST.into() && counters.tftp_dropped.get() > 0);
}

/// An upstream that has one file, and a mirror of it in the site. Its end tells how often it was asked.
async fn mirror(lab: &Lab, content: &'static [u8]) -> Arc<std::sync::atomic::AtomicUsize> {
    use site::entity::{Edit, EntityId};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/pub", listener.local_addr().unwrap());
    let asked = Arc::<std::sync::atomic::AtomicUsize>::default();
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let there = head.starts_with(b"GET /pub/linux ");
            let (status, body) = if there { ("200 OK", content) } else { ("404 Not Found", &b""[..]) };
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(body).await.unwrap();
        }
    });
    let entity = EntityId { kind: "mirror".parse().unwrap(), name: "lab".parse().unwrap() };
    let edits = [
        Edit::Create { entity: entity.clone() },
        Edit::Set {
            entity,
            variable: "url".parse().unwrap(),
            values: [url].into_iter().collect(),
            expect: None,
        },
    ];
    let site = lab.shared.state.site.load().edit(&edits).unwrap().0;
    lab.shared.state.site.store(Arc::new(site));
    asked
}

#[tokio::test]
async fn what_a_mirror_brings_goes_to_who_listens_where_it_asks_and_then_to_each_client() {
    let lab = Lab::new();
    let asked = mirror(&lab, &[7; 2000]).await;
    let asked = || asked.load(std::sync::atomic::Ordering::Relaxed);
    let client_socket = client(CLIENT).await;
    // Without options there is no telling whether it is there, and with a forged sender nobody answers.
    assert_eq!(lab.send(&client_socket, &rrq("mirror/lab/linux", &[])), None);
    assert_eq!(error_code(&receive(&client_socket).await.0), 2);
    assert_eq!(asked(), 0, "it was fetched for whoever says so");

    let client_socket = client(CLIENT).await;
    assert_eq!(lab.send(&client_socket, &rrq("mirror/lab/linux", &["blksize", "1432"])), None);
    let (oack, from) = receive(&client_socket).await;
    assert_eq!(oack, b"\0\x06blksize\x00512\0");
    assert_eq!(asked(), 0);
    client_socket.send_to(&[0, 4, 0, 0], from).await.unwrap();
    assert_eq!(download(&client_socket).await, [7; 2000]);
    assert_eq!(asked(), 1);

    // What is here goes to all as any file does.
    let client_socket = client(CLIENT).await;
    assert_eq!(lab.send(&client_socket, &rrq("mirror/lab/linux", &[])), None);
    assert_eq!(download(&client_socket).await, [7; 2000]);
    assert_eq!(asked(), 1);

    let client_socket = client(CLIENT).await;
    assert_eq!(lab.send(&client_socket, &rrq("mirror/lab/other", &["blksize", "1432"])), None);
    let (_, from) = receive(&client_socket).await;
    client_socket.send_to(&[0, 4, 0, 0], from).await.unwrap();
    assert_eq!(error_code(&receive(&client_socket).await.0), 1);

    // A stranger has nothing fetched.
    let stranger = client(Ipv4Addr::new(127, 0, 0, 3)).await;
    assert_eq!(lab.send(&stranger, &rrq("mirror/lab/linux", &["blksize", "1432"])), None);
    assert_eq!(error_code(&receive(&stranger).await.0), 2);
}
