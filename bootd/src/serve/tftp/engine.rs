//! The threads that move blocks.
//!
//! A transfer is a conversation of small packets, each of which waits for the one before. What it costs is system calls and
//! wake-ups, thousands to the megabyte; so transfers do not run as tasks among all others, but on a few threads that do
//! nothing else. Each thread has a set of connected sockets in one `epoll`, and goes from an acknowledgement to the
//! next blocks in two calls, `recv` and `send`. A window of blocks is one `send`, which the kernel cuts into packets (UDP
//! segmentation offload, Linux 4.18), or the card where it can.
//!
//! Times by which something is to be sent again lie in a heap that is put right lazily: an acknowledgement moves its
//! transfer's time on without touching the heap, and an entry that comes up too early is put back.
//!
//! Files are read where the packet is made. All transfers of a file share its pages in the kernel's cache, and
//! the kernel reads ahead; a thread of its own for each read would cost more than the read does.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use netboot::tftp::{Summary, Transfer};
use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use tokio::sync::oneshot;

use super::transfer::MAX_ANSWER;
use super::way::Way;

/// How many threads there are at most. One keeps a gigabit busy with blocks of 1432 bytes.
const MAX_THREADS: usize = 4;

/// How much one call may send, in bytes and in packets: what a UDP datagram could hold, and what the kernel cuts at once.
const MAX_BATCH_BYTES: usize = 65_000;
const MAX_BATCH_PACKETS: usize = 64;

/// How many sockets are looked at before the clock is.
const EVENTS: usize = 256;

/// How long a transfer may leave the clock unwatched. It always names a time of its own; this is only so that no mistake there
/// keeps it for ever.
const IDLE: Duration = Duration::from_secs(60);

/// What the event of the thread's own wake-up carries instead of a transfer's place.
const WAKE: u64 = u64::MAX;

/// A transfer to be run.
pub(super) struct Job {
    /// To the client.
    pub(super) way: Way,
    /// Begun at `epoch`.
    pub(super) transfer: Transfer,
    /// What the transfer's times count from.
    pub(super) epoch: Instant,
    /// Set once the client has answered.
    pub(super) heard: Arc<AtomicBool>,
}

/// The threads. They end when this is dropped, and what they were sending breaks off.
#[derive(Debug)]
pub(super) struct Engine {
    workers: Vec<Worker>,
    /// The number of the next transfer.
    tickets: AtomicU64,
}

#[derive(Debug)]
struct Worker {
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
}

/// What a thread is told by others.
#[derive(Debug)]
struct Inbox {
    jobs: Mutex<Vec<(Job, oneshot::Sender<Summary>, u64)>>,
    /// Transfers whose callers wait no more.
    left: Mutex<Vec<u64>>,
    /// Transfers in whose mailbox there is something: each once, until it has looked.
    mail: Mutex<Vec<u64>>,
    wake: OwnedFd,
    /// How many transfers the thread has, those in `jobs` counted.
    load: AtomicUsize,
    stop: AtomicBool,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("way", &self.way).finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system has none to give.
    pub(super) fn start() -> io::Result<Self> {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let workers = (0..threads).map(Worker::start).collect::<io::Result<_>>()?;
        Ok(Self { workers, tickets: AtomicU64::new(0) })
    }

    /// Runs a transfer to its end. When the caller stops waiting, the transfer is broken off, and its socket closed at once: who
    /// begins many and leaves them must not have many open.
    ///
    /// # Errors
    /// When the threads are ending.
    pub(super) async fn run(&self, job: Job) -> Result<Summary, oneshot::error::RecvError> {
        let least = self.workers.iter().min_by_key(|worker| worker.inbox.load.load(Ordering::Relaxed));
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        // It goes after the end that is waited for, which by then says that nobody does.
        let mut waiting = Waiting { inbox: least.map(|worker| Arc::clone(&worker.inbox)), ticket };
        let (done, end) = oneshot::channel();
        if let Some(inbox) = &waiting.inbox {
            if let Way::Asked(port) = &job.way {
                port.mailbox.attach(Bell { inbox: Arc::clone(inbox), ticket });
            }
            inbox.load.fetch_add(1, Ordering::Relaxed);
            inbox.jobs.lock().push((job, done, ticket));
            inbox.wake();
        }
        let ended = end.await;
        waiting.inbox = None;
        ended
    }
}

/// Somebody who waits for the end of a transfer.
struct Waiting {
    /// The thread that has it; `None` once it has ended.
    inbox: Option<Arc<Inbox>>,
    ticket: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(inbox) = &self.inbox {
            inbox.left.lock().push(self.ticket);
            inbox.wake();
        }
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let inbox = Arc::new(Inbox {
            jobs: Mutex::default(),
            left: Mutex::default(),
            mail: Mutex::default(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            load: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        epoll::add(&epoll, &inbox.wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        let its = Arc::clone(&inbox);
        let thread = thread::Builder::new()
            .name(format!("tftp-{number}"))
            .spawn(move || Loop::new(epoll, its).run())?;
        Ok(Self { inbox, thread: Some(thread) })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.inbox.stop.store(true, Ordering::Release);
            worker.inbox.wake();
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

impl Inbox {
    fn wake(&self) {
        // It fails only when it was woken 2^64 times and never looked.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// Tells a thread that there are answers to one of its transfers.
#[derive(Debug)]
pub(super) struct Bell {
    inbox: Arc<Inbox>,
    ticket: u64,
}

impl Bell {
    pub(super) fn ring(&self) {
        self.inbox.mail.lock().push(self.ticket);
        self.inbox.wake();
    }
}

/// A transfer that runs.
struct Running {
    job: Job,
    done: oneshot::Sender<Summary>,
    ticket: u64,
    generation: u32,
    /// The earliest of its entries in the heap of times.
    armed: Option<Duration>,
    /// Whether the kernel cuts windows into packets for it.
    offload: bool,
}

/// One thread's state.
struct Loop {
    epoll: OwnedFd,
    inbox: Arc<Inbox>,
    start: Instant,
    slots: Vec<Option<Running>>,
    free: Vec<u32>,
    /// The transfers' keys by their tickets.
    keys: HashMap<u64, u64>,
    generation: u32,
    /// When to look at which transfer, since `start`.
    times: BinaryHeap<Reverse<(Duration, u64)>>,
    packets: Vec<u8>,
}

/// A place and the generation of who is in it, so that what is said of an earlier transfer is not taken for a later's.
fn key(slot: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(slot)
}

impl Loop {
    fn new(epoll: OwnedFd, inbox: Arc<Inbox>) -> Self {
        Self {
            epoll,
            inbox,
            start: Instant::now(),
            slots: Vec::new(),
            free: Vec::new(),
            keys: HashMap::new(),
            generation: 0,
            times: BinaryHeap::new(),
            packets: vec![0; 2 * MAX_BATCH_BYTES],
        }
    }

    fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        while !self.inbox.stop.load(Ordering::Acquire) {
            let wait = self.times.peek().map(|Reverse((at, _))| at.saturating_sub(self.start.elapsed()));
            let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
            match epoll::wait(&self.epoll, spare_capacity(&mut events), wait.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                // Not one of its errors can come of anything but a bug here; better slow than mad.
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    WAKE => self.take_jobs(),
                    key => self.receive(key),
                }
            }
            self.late();
        }
    }

    fn take_jobs(&mut self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.inbox.wake, &mut count);
        let jobs = std::mem::take(&mut *self.inbox.jobs.lock());
        for (job, done, ticket) in jobs {
            self.generation = self.generation.wrapping_add(1) & (u32::MAX >> 1);
            let generation = self.generation;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            });
            let key = key(slot, generation);
            // One that can't be watched is not lost: it is sent again by the clock, slowly.
            if let Way::Own(socket) = &job.way {
                let data = epoll::EventData::new_u64(key);
                let _ = epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN);
            }
            if let Some(place) = self.slots.get_mut(slot as usize) {
                *place = Some(Running { job, done, ticket, generation, armed: None, offload: true });
            }
            self.keys.insert(ticket, key);
            // What came for it before it was here.
            self.go_on(key, Running::take_mail);
        }
        let mail = std::mem::take(&mut *self.inbox.mail.lock());
        for ticket in mail {
            if let Some(key) = self.keys.get(&ticket).copied() {
                self.go_on(key, Running::take_mail);
            }
        }
        let left = std::mem::take(&mut *self.inbox.left.lock());
        for ticket in left {
            if let Some(key) = self.keys.get(&ticket).copied() {
                self.go_on(key, |_, _| {});
            }
        }
    }

    /// Takes one datagram. What else waits is told of again by the next look at all sockets, which saves the call that would
    /// find that nothing does.
    fn receive(&mut self, key: u64) {
        self.go_on(key, |running, now| {
            let Way::Own(socket) = &running.job.way else { return };
            let mut answer = [0; MAX_ANSWER];
            match socket.recv(&mut answer) {
                Ok(len) => running.hear(answer.get(..len).unwrap_or_default(), now),
                Err(e) if is_gone(&e) => running.job.transfer.handle_unreachable(now),
                Err(_) => {}
            }
        });
    }

    /// Tells the transfers whose time has come.
    fn late(&mut self) {
        let now = self.start.elapsed();
        while let Some(&Reverse((at, key))) = self.times.peek()
            && at <= now
        {
            self.times.pop();
            if let Some(running) = self.running(key) {
                running.armed = None;
                self.go_on(key, |running, now| running.job.transfer.handle_timeout(now));
            }
        }
    }

    fn running(&mut self, key: u64) -> Option<&mut Running> {
        let slot = self.slots.get_mut((key & u64::from(u32::MAX)) as usize)?;
        slot.as_mut().filter(|running| u64::from(running.generation) == key >> 32)
    }

    /// Has `what` done with a transfer, sends what it has to send then, and notes when to look at it again.
    fn go_on(&mut self, key: u64, what: impl FnOnce(&mut Running, Duration)) {
        let slot = (key & u64::from(u32::MAX)) as usize;
        let Some(place) = self.slots.get_mut(slot) else { return };
        let Some(running) = place.as_mut().filter(|it| u64::from(it.generation) == key >> 32) else { return };
        let now = running.job.epoch.elapsed();
        if !running.done.is_closed() {
            what(running, now);
            running.send(&mut self.packets);
        }
        let over = running.job.transfer.summary().cloned();
        if over.is_some() || running.done.is_closed() {
            if let Some(ended) = place.take() {
                self.keys.remove(&ended.ticket);
                if let Some(summary) = over {
                    let _ = ended.done.send(summary);
                }
            }
            self.free.extend(u32::try_from(slot));
            self.inbox.load.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        // On this thread's clock.
        let since = running.job.epoch.saturating_duration_since(self.start);
        let at = since + running.job.transfer.poll_timeout().unwrap_or(now + IDLE);
        if running.armed.is_none_or(|armed| at < armed) {
            running.armed = Some(at);
            self.times.push(Reverse((at, key)));
        }
    }
}

impl Running {
    fn hear(&mut self, answer: &[u8], now: Duration) {
        self.job.heard.store(true, Ordering::Relaxed);
        self.job.transfer.handle(answer, now);
    }

    fn take_mail(&mut self, now: Duration) {
        let Way::Asked(port) = &self.job.way else { return };
        for answer in port.mailbox.take() {
            self.hear(&answer, now);
        }
    }

    /// Sends all that is to be sent now, as many packets in one call as can be.
    fn send(&mut self, packets: &mut [u8]) {
        let longest = self.job.transfer.max_packet_len();
        let mut batch = Batch::default();
        loop {
            let now = self.job.epoch.elapsed();
            let room = packets.get_mut(batch.end..).unwrap_or_default();
            let Some(len) = self.job.transfer.poll_transmit(room, now) else { break };
            if len > batch.first && batch.count > 0 {
                // No packet may be longer than the first of its batch.
                self.flush(packets, batch);
                packets.copy_within(batch.end..batch.end + len, 0);
                batch = Batch::default();
            }
            batch.add(len);
            if len < batch.first
                || batch.count == MAX_BATCH_PACKETS
                || batch.end + longest > MAX_BATCH_BYTES.max(longest)
            {
                self.flush(packets, batch);
                batch = Batch::default();
            }
        }
        self.flush(packets, batch);
    }

    fn flush(&mut self, packets: &[u8], batch: Batch) {
        let bytes = packets.get(..batch.end).unwrap_or_default();
        if batch.count > 1 && self.offload {
            let size = u16::try_from(batch.first).unwrap_or(u16::MAX);
            let sent = self.job.way.send(bytes, Some(size));
            if !sent.as_ref().is_err_and(is_unsupported) {
                return self.sent(sent);
            }
            self.offload = false;
        }
        for packet in bytes.chunks(batch.first.max(1)) {
            let sent = self.job.way.send(packet, None);
            self.sent(sent);
        }
    }

    /// Lost before it left is lost like any other packet: it is sent again.
    fn sent(&mut self, sent: io::Result<()>) {
        if sent.is_err_and(|e| is_gone(&e)) {
            self.job.transfer.handle_unreachable(self.job.epoch.elapsed());
        }
    }
}

/// Packets one behind the other: all as long as the first, but for the last, which may be shorter.
#[derive(Debug, Clone, Copy, Default)]
struct Batch {
    first: usize,
    end: usize,
    count: usize,
}

impl Batch {
    fn add(&mut self, len: usize) {
        if self.count == 0 {
            self.first = len;
        }
        self.end += len;
        self.count += 1;
    }
}

/// The way there has no such thing as the kernel's cutting: no checksums by the card, say, or IPsec.
fn is_unsupported(error: &io::Error) -> bool {
    use libc::{EINVAL, EIO, ENOPROTOOPT, EOPNOTSUPP};
    matches!(error.raw_os_error(), Some(EINVAL | EIO | ENOPROTOOPT | EOPNOTSUPP))
}

/// The network says that nobody listens at the client's port, or that there is no way to the client any more.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkDown | NetworkUnreachable)
}
