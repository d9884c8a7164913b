//! The portal over loopback, with disks that are slow, or fail, or are wanted by several at once.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use block::{
    BlockCount, BlockError, BlockRange, Checked, ErrorKind, Geometry, Lba, MemVolume, Segments, Volume,
};
use bytes::Bytes;
use iscsi::{Credentials, Identity, Limits, Lun, LunOptions, Target};
use parking_lot::{Condvar, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;

const BLOCKS: u64 = 8192;
const READ: u8 = 0x40;
const WRITE: u8 = 0x20;

/// Longer than anything here takes, and shorter than a patience.
const LONG: Duration = Duration::from_secs(20);

/// A disk whose reads wait until its gate is opened.
struct Slow {
    inner: MemVolume,
    is_open: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicUsize,
    most_waiting: AtomicUsize,
}

impl Slow {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: MemVolume::new(geometry()),
            is_open: Mutex::new(false),
            opened: Condvar::new(),
            waiting: AtomicUsize::new(0),
            most_waiting: AtomicUsize::new(0),
        })
    }

    fn open(&self) {
        *self.is_open.lock() = true;
        self.opened.notify_all();
    }

    async fn until_waiting(&self, n: usize) {
        while self.waiting.load(Ordering::SeqCst) < n {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Volume for Slow {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn read(&self, range: BlockRange, out: &mut Segments) -> Result<(), BlockError> {
        let waiting = self.waiting.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_waiting.fetch_max(waiting, Ordering::SeqCst);
        let mut is_open = self.is_open.lock();
        while !*is_open {
            self.opened.wait(&mut is_open);
        }
        drop(is_open);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.inner.read(range, out)
    }

    fn write(&self, start: Lba, data: &[Bytes], fua: bool) -> Result<(), BlockError> {
        self.inner.write(start, data, fua)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.inner.flush()
    }

    fn discard(&self, range: BlockRange) -> Result<(), BlockError> {
        self.inner.discard(range)
    }
}

/// A disk that can't be read.
struct Broken;

impl Volume for Broken {
    fn geometry(&self) -> Geometry {
        geometry()
    }

    fn read(&self, range: BlockRange, _: &mut Segments) -> Result<(), BlockError> {
        Err(BlockError::new(ErrorKind::ReadFailed, range.to_string()))
    }

    fn write(&self, _: Lba, _: &[Bytes], _: bool) -> Result<(), BlockError> {
        Ok(())
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn discard(&self, _: BlockRange) -> Result<(), BlockError> {
        Ok(())
    }
}

fn geometry() -> Geometry {
    Geometry::new(BlockCount::new(BLOCKS)).unwrap()
}

fn memory() -> Arc<dyn Volume> {
    Arc::new(Checked::new(Arc::new(MemVolume::new(geometry()))))
}

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Report for Told {
    fn tell(&self, _: SocketAddr, fact: Fact<'_>) {
        self.0.lock().push(format!("{fact:?}"));
    }

    fn trouble(&self, error: &io::Error) {
        self.0.lock().push(error.to_string());
    }
}

impl Told {
    async fn until(&self, what: &str) {
        let is_told = || self.0.lock().iter().any(|told| told.contains(what));
        let wait = async {
            while !is_told() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(timeout(LONG, wait).await.is_ok(), "never told of {what}: {:?}", self.0.lock());
    }
}

struct Lab {
    address: SocketAddr,
    portal: Arc<Portal>,
    table: Arc<Table>,
    told: Arc<Told>,
    stop: CancellationToken,
}

impl Lab {
    async fn new(disks: &[(&str, Arc<dyn Volume>)]) -> Self {
        let table = Arc::new(Table::default());
        for (name, volume) in disks {
            table.insert(target(name), Arc::clone(volume));
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, stop) = (Arc::new(Told::default()), CancellationToken::new());
        let report: Arc<dyn Report> = Arc::clone(&told) as _;
        let portal = Arc::new(Portal::new(Arc::clone(&table), report, Limits::default(), stop.clone()));
        let serving = Arc::clone(&portal);
        tokio::spawn(async move { serving.serve(listener).await });
        Self { address, portal, table, told, stop }
    }

    async fn initiator(&self, target: &str, isid: u8) -> Initiator {
        let mut initiator = Initiator::connect(self.address).await;
        initiator.log_in(target, isid).await;
        initiator
    }
}

fn target(name: &str) -> Target {
    let identity = Identity {
        vendor: "BOOTD".into(),
        product: "Virtual Disk".into(),
        revision: "1".into(),
        serial: name.into(),
        naa: [0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        target_name: name.into(),
    };
    let lun = Lun::new(identity, geometry(), LunOptions::default());
    Target::new(name, Credentials::default(), Arc::new(lun))
}

/// As much of an initiator as this needs: one command at a time, immediate data.
struct Initiator {
    stream: TcpStream,
    cmd_sn: u32,
}

impl Initiator {
    async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), cmd_sn: 1 }
    }

    async fn log_in(&mut self, target: &str, isid: u8) {
        let text = format!("InitiatorName=iqn.i\0TargetName={target}\0InitialR2T=No\0ImmediateData=Yes\0");
        let mut bhs = header(0x43, 0x87, 1, self.cmd_sn);
        bhs[13] = isid;
        self.send(bhs, text.as_bytes()).await;
        let (bhs, _) = self.receive().await;
        assert_eq!((bhs[0], bhs[36], bhs[37]), (0x23, 0, 0));
        assert_eq!(self.command(&[0], 0, 0, &[]).await.0, 2, "unit attention");
    }

    async fn send(&mut self, mut bhs: [u8; 48], data: &[u8]) {
        bhs[4..8].copy_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes());
        let mut pdu = [&bhs, data].concat();
        pdu.resize(pdu.len().next_multiple_of(4), 0);
        self.stream.write_all(&pdu).await.unwrap();
    }

    async fn receive(&mut self) -> ([u8; 48], Vec<u8>) {
        let receive = async {
            let mut bhs = [0; 48];
            self.stream.read_exact(&mut bhs).await.unwrap();
            let len = u32::from_be_bytes([0, bhs[5], bhs[6], bhs[7]]) as usize;
            let mut data = vec![0; len.next_multiple_of(4)];
            self.stream.read_exact(&mut data).await.unwrap();
            data.truncate(len);
            (bhs, data)
        };
        timeout(LONG, receive).await.unwrap()
    }

    async fn start(&mut self, cdb: &[u8], flags: u8, len: usize, data: &[u8]) {
        let mut bhs = header(0x01, 0x81 | flags, self.cmd_sn, self.cmd_sn);
        self.cmd_sn += 1;
        bhs[20..24].copy_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
        bhs[32..32 + cdb.len()].copy_from_slice(cdb);
        self.send(bhs, data).await;
    }

    /// Status, and data or sense data.
    async fn command(&mut self, cdb: &[u8], flags: u8, len: usize, data: &[u8]) -> (u8, Vec<u8>) {
        self.start(cdb, flags, len, data).await;
        let mut all = Vec::new();
        loop {
            let (bhs, data) = self.receive().await;
            all.extend(data);
            if bhs[0] == 0x21 || bhs[1] & 0x01 != 0 {
                return (bhs[3], all);
            }
        }
    }

    async fn ping(&mut self) {
        let bhs = header(0x40, 0x80, 0x7777, self.cmd_sn);
        self.send(bhs, &[]).await;
        assert_eq!(self.receive().await.0[0], 0x20);
    }

    /// Whether the target has closed the connection.
    async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        matches!(timeout(LONG, self.stream.read(&mut byte)).await.unwrap(), Ok(0) | Err(_))
    }
}

fn header(opcode: u8, flags: u8, itt: u32, cmd_sn: u32) -> [u8; 48] {
    let mut bhs = [0; 48];
    (bhs[0], bhs[1]) = (opcode, flags);
    bhs[16..20].copy_from_slice(&itt.to_be_bytes());
    if opcode == 0x40 {
        bhs[20..24].fill(0xff);
    }
    bhs[24..28].copy_from_slice(&cmd_sn.to_be_bytes());
    bhs
}

fn read10(lba: u32, blocks: u16) -> Vec<u8> {
    [&[0x28, 0][..], &lba.to_be_bytes(), &[0], &blocks.to_be_bytes(), &[0]].concat()
}

fn write10(lba: u32, blocks: u16) -> Vec<u8> {
    [&[0x2a, 0][..], &lba.to_be_bytes(), &[0], &blocks.to_be_bytes(), &[0]].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_read() {
    let lab = Lab::new(&[("iqn.t", memory())]).await;
    let mut initiator = lab.initiator("iqn.t", 0).await;
    let data: Vec<u8> = (0..8192).map(|at| (at % 251) as u8).collect();
    assert_eq!(initiator.command(&write10(7, 16), WRITE, 8192, &data).await, (0, vec![]));
    assert_eq!(initiator.command(&read10(7, 16), READ, 8192, &[]).await, (0, data));
    lab.told.until("FirstWrite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_holds_up_nobody_and_takes_no_more_than_its_jobs() {
    let slow = Slow::new();
    let lab = Lab::new(&[("iqn.slow", Arc::clone(&slow) as _), ("iqn.t", memory())]).await;
    let mut greedy = lab.initiator("iqn.slow", 0).await;
    for lba in 0..60 {
        greedy.start(&read10(lba, 1), READ, 512, &[]).await;
    }
    slow.until_waiting(JOBS_PER_CONNECTION).await;
    let mut other = lab.initiator("iqn.t", 0).await;
    assert_eq!(other.command(&read10(0, 8), READ, 4096, &[]).await.0, 0);
    greedy.ping().await;
    slow.open();
    for _ in 0..60 {
        assert_eq!(greedy.receive().await.0[0], 0x25);
    }
    assert_eq!(slow.most_waiting.load(Ordering::SeqCst), JOBS_PER_CONNECTION);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_is_told_of_to_both_sides() {
    let lab = Lab::new(&[("iqn.broken", Arc::new(Broken) as _)]).await;
    let mut initiator = lab.initiator("iqn.broken", 0).await;
    let (status, sense) = initiator.command(&read10(5, 2), READ, 1024, &[]).await;
    assert_eq!((status, sense[4] & 0x0f, sense[14]), (2, 3, 0x11));
    lab.told.until("DiskFailed").await;
    lab.told.until("blocks 5..7").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compare_and_write_is_one_step() {
    const SESSIONS: u8 = 4;
    const STEPS: u32 = 25;
    let lab = Arc::new(Lab::new(&[("iqn.t", memory())]).await);
    let compare_and_write: Vec<u8> = [&[0x89][..], &[0; 12], &[1, 0, 0]].concat();
    let mut counting = tokio::task::JoinSet::new();
    for isid in 0..SESSIONS {
        let (lab, cdb) = (Arc::clone(&lab), compare_and_write.clone());
        counting.spawn(async move {
            let mut initiator = lab.initiator("iqn.t", isid).await;
            let mut done = 0;
            while done < STEPS {
                let (_, mut block) = initiator.command(&read10(0, 1), READ, 512, &[]).await;
                let before = block.clone();
                let count = u32::from_be_bytes(block[..4].try_into().unwrap()) + 1;
                block[..4].copy_from_slice(&count.to_be_bytes());
                let (status, _) = initiator.command(&cdb, WRITE, 1024, &[before, block].concat()).await;
                done += u32::from(status == 0);
            }
        });
    }
    while let Some(counted) = counting.join_next().await {
        counted.unwrap();
    }
    let mut initiator = lab.initiator("iqn.t", SESSIONS).await;
    let (_, block) = initiator.command(&read10(0, 1), READ, 512, &[]).await;
    assert_eq!(block[..4], (u32::from(SESSIONS) * STEPS).to_be_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_outlives_its_socket_until_the_disk_is_done() {
    let slow = Slow::new();
    let lab = Lab::new(&[("iqn.slow", Arc::clone(&slow) as _)]).await;
    let mut old = lab.initiator("iqn.slow", 0).await;
    old.start(&read10(0, 1), READ, 512, &[]).await;
    slow.until_waiting(1).await;
    drop(old);
    // The same port again must wait for what the old session still does.
    let mut new = Initiator::connect(lab.address).await;
    let mut logging_in = tokio::spawn(async move {
        new.log_in("iqn.slow", 0).await;
        new
    });
    assert!(timeout(Duration::from_millis(200), &mut logging_in).await.is_err(), "too early");
    slow.open();
    timeout(LONG, logging_in).await.unwrap().unwrap().ping().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_read_holds_up_nobody() {
    let lab = Lab::new(&[("iqn.t", memory())]).await;
    let mut stuck = lab.initiator("iqn.t", 0).await;
    for _ in 0..100 {
        stuck.start(&read10(0, 4096), READ, 2 << 20, &[]).await;
    }
    let mut other = lab.initiator("iqn.t", 1).await;
    for _ in 0..100 {
        assert_eq!(other.command(&read10(0, 8), READ, 4096, &[]).await.0, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_connections_is_bounded_and_those_inside_feel_nothing() {
    let lab = Lab::new(&[("iqn.t", memory())]).await;
    let mut inside = lab.initiator("iqn.t", 0).await;
    let mut half_open = Vec::new();
    for _ in 0..HALF_OPEN_PER_ADDRESS {
        half_open.push(Initiator::connect(lab.address).await);
    }
    let mut refused = Initiator::connect(lab.address).await;
    assert!(refused.is_closed().await);
    lab.told.until("Refused").await;
    inside.ping().await;
    half_open.pop();
    lab.told.until("Closed").await;
    lab.initiator("iqn.t", 1).await.ping().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_ends_one_connection() {
    let lab = Lab::new(&[("iqn.t", memory())]).await;
    let mut inside = lab.initiator("iqn.t", 0).await;
    let mut nonsense = Initiator::connect(lab.address).await;
    nonsense.stream.write_all(&[0xff; 4096]).await.unwrap();
    assert!(nonsense.is_closed().await);
    lab.told.until("ProtocolError").await;
    inside.ping().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_removed_is_gone_for_its_sessions() {
    let lab = Lab::new(&[("iqn.t", memory()), ("iqn.u", memory())]).await;
    let mut initiator = lab.initiator("iqn.t", 0).await;
    let mut other = lab.initiator("iqn.u", 0).await;
    assert!(lab.table.remove("iqn.t"));
    assert!(!lab.table.remove("iqn.t"));
    assert!(initiator.is_closed().await);
    let replaced = lab.initiator("iqn.u", 1).await;
    lab.table.insert(target("iqn.u"), memory());
    assert!(other.is_closed().await, "another disk under the same name is another disk");
    drop(replaced);
    lab.initiator("iqn.u", 0).await.ping().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_finishes_what_is_on_the_disk() {
    let slow = Slow::new();
    let lab = Lab::new(&[("iqn.slow", Arc::clone(&slow) as _)]).await;
    let mut initiator = lab.initiator("iqn.slow", 0).await;
    initiator.start(&read10(0, 1), READ, 512, &[]).await;
    slow.until_waiting(1).await;
    lab.stop.cancel();
    assert!(timeout(Duration::from_millis(200), lab.portal.drain()).await.is_err(), "too early");
    slow.open();
    assert!(timeout(LONG, lab.portal.drain()).await.is_ok());
    assert!(initiator.is_closed().await);
}
