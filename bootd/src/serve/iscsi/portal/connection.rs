//! The task of one connection.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use block::{BlockError, ErrorKind};
use bytes::Buf;
use iscsi::{Connection, Event, IoOutcome, Limits, Wake};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::disk::{self, Attempt};
use super::jobs::Jobs;
use super::places::Place;
use super::report::{Fact, Report};
use super::room::Room;
use super::table::{Export, Table};

/// How much is read and made ready for the socket at a time. Where the socket takes it, more would only have left
/// the processor's cache by the time it is sent.
const SEND_AHEAD: usize = 256 << 10;

/// Writes until other connections of the same thread have their turn.
const WRITES_IN_A_ROW: usize = 16;

/// Pieces in one write; the system takes 1024 at most.
const SLICES: usize = 128;

/// What a connection needs of its portal.
pub(super) struct Setting {
    pub(super) table: Arc<Table>,
    pub(super) report: Arc<dyn Report>,
    pub(super) permits: Arc<Semaphore>,
    pub(super) limits: Limits,
    pub(super) stop: CancellationToken,
}

/// Serves one connection until it is over.
pub(super) async fn serve(
    mut stream: TcpStream,
    portal: SocketAddr,
    peer: SocketAddr,
    setting: &Setting,
    entropy: [u8; 32],
    place: Place,
) {
    let notify = Arc::new(Notify::new());
    let wake: Wake = {
        let notify = Arc::clone(&notify);
        Arc::new(move || notify.notify_one())
    };
    let clock = Instant::now();
    let directory = Arc::clone(&setting.table);
    let connection =
        Connection::new(directory, portal, setting.limits.clone(), entropy, wake, clock.elapsed());
    let mut task = Task {
        connection,
        peer,
        setting,
        clock,
        export: None,
        target: None,
        jobs: Jobs::new(Arc::clone(&setting.permits)),
        place,
        room: Room::new(),
        share: setting.limits.bytes_in_flight,
        is_stalled: false,
    };
    let (reader, writer) = stream.split();
    task.run(reader, writer, &notify).await;
    task.tell();
    setting.report.tell(peer, Fact::Closed { target: task.target.as_deref() });
}

/// How far a connection got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// There is nothing to do for now.
    Idle,
    /// The socket takes no more for now.
    Blocked,
    /// There is more, and others have their turn.
    More,
}

struct Task<'a> {
    connection: Connection,
    peer: SocketAddr,
    setting: &'a Setting,
    clock: Instant,
    export: Option<Arc<Export>>,
    target: Option<String>,
    jobs: Jobs,
    place: Place,
    room: Room,
    share: u64,
    /// Whether input was left where it was because it could not be taken.
    is_stalled: bool,
}

impl Task<'_> {
    async fn run(&mut self, mut reader: ReadHalf<'_>, writer: WriteHalf<'_>, notify: &Notify) {
        let mut alarm = Alarm::new(self.clock);
        // A token of its own, so that connections don't meet at its lock.
        let stop = self.setting.stop.child_token();
        let mut stopped = std::pin::pin!(stop.cancelled());
        let mut is_there = true;
        loop {
            self.take_share();
            let progress = self.advance(&writer).unwrap_or_else(|_| {
                is_there = false;
                self.connection.handle_disconnect();
                Progress::More
            });
            if self.connection.is_closed() {
                return;
            }
            let wants_input = is_there && self.connection.wants_input();
            if wants_input && std::mem::take(&mut self.is_stalled) {
                self.take_input();
                continue;
            }
            if progress == Progress::More {
                tokio::task::yield_now().await;
            }
            alarm.set(earlier(self.connection.poll_timeout(), self.room.poll_timeout()));
            let needed = self.connection.input_needed();
            tokio::select! {
                biased;
                read = read(&mut reader, &mut self.room, needed), if wants_input => match read {
                    Ok(n) if n > 0 => {
                        self.room.on_read(n, self.clock.elapsed());
                        self.take_input();
                    }
                    Ok(_) | Err(_) => {
                        is_there = false;
                        self.connection.handle_disconnect();
                    }
                },
                (id, outcome) = self.jobs.next(self.export.as_ref()) => {
                    let outcome = self.outcome(outcome);
                    self.connection.handle_io(id, outcome);
                }
                // What is wrong with the socket, the next write says.
                _ = writer.writable(), if is_there && progress == Progress::Blocked => {}
                () = notify.notified() => self.connection.handle_wake(self.clock.elapsed()),
                () = alarm.rings() => {
                    let now = self.clock.elapsed();
                    self.connection.handle_timeout(now);
                    self.room.on_timeout(now);
                }
                () = &mut stopped, if is_there => {
                    is_there = false;
                    self.connection.handle_disconnect();
                }
                () = std::future::ready(()), if progress == Progress::More => {}
            }
        }
    }

    /// Keeps to what every connection may have in flight now.
    fn take_share(&mut self) {
        let share = self.place.share().min(self.setting.limits.bytes_in_flight);
        if share != self.share {
            self.share = share;
            self.connection.limit_bytes_in_flight(share);
        }
    }

    fn take_input(&mut self) {
        self.connection.handle_input(self.room.input(), self.clock.elapsed());
        self.is_stalled = !self.connection.wants_input();
    }

    /// Does what can be done without waiting, for a while.
    fn advance(&mut self, writer: &WriteHalf<'_>) -> io::Result<Progress> {
        for _ in 0..WRITES_IN_A_ROW {
            self.tell();
            self.do_io(SEND_AHEAD);
            let output = self.connection.poll_transmit(SEND_AHEAD);
            if !output.has_remaining() {
                return Ok(Progress::Idle);
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = output.chunks_vectored(&mut slices);
            match writer.try_write_vectored(slices.get(..count).unwrap_or_default()) {
                Ok(n) => output.advance(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.do_io(usize::MAX);
                    return Ok(Progress::Blocked);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Progress::More)
    }

    /// Does what is to be done on the disk until that much waits to be sent.
    fn do_io(&mut self, most: usize) {
        while self.connection.bytes_to_send() < most
            && let Some((id, io)) = self.connection.poll_io()
        {
            let attempt = match &self.export {
                Some(export) => disk::try_now(export, io),
                None => Attempt::Done(Err(BlockError::new(ErrorKind::Gone, "a target that was removed"))),
            };
            match (attempt, &self.export) {
                (Attempt::Done(outcome), _) => {
                    let outcome = self.outcome(outcome);
                    self.connection.handle_io(id, outcome);
                }
                (Attempt::MustWait(io), Some(export)) => self.jobs.push(export, id, disk::detached(io)),
                (Attempt::MustWait(_), None) => {}
            }
        }
    }

    /// Tells what happened, and finds the disk when the login is complete.
    fn tell(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            if let Event::LoggedIn { target, .. } = &event {
                self.target.clone_from(target);
                let table = &self.setting.table;
                self.export = self.connection.target().and_then(|target| table.export_of(target));
                self.place.on_login();
            }
            let fact = Fact::Session { target: self.target.as_deref(), event };
            self.setting.report.tell(self.peer, fact);
        }
    }

    fn outcome(&self, result: Result<IoOutcome, BlockError>) -> IoOutcome {
        result.unwrap_or_else(|error| {
            let target = self.target.as_deref().unwrap_or_default();
            self.setting.report.tell(self.peer, Fact::DiskFailed { target, error: &error });
            IoOutcome::Failed(error.kind())
        })
    }
}

/// Reads what is there. Who is idle has no memory for that until something comes.
async fn read(reader: &mut ReadHalf<'_>, room: &mut Room, needed: usize) -> io::Result<usize> {
    if room.poll_timeout().is_none() {
        reader.readable().await?;
    }
    reader.read_buf(room.for_reading(needed)).await
}

fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    [one, other].into_iter().flatten().min()
}

/// A timer that is seldom touched: deadlines mostly move away, so it rings too early and is set again then.
struct Alarm {
    clock: Instant,
    at: Option<Duration>,
    sleep: Pin<Box<Sleep>>,
}

impl Alarm {
    fn new(clock: Instant) -> Self {
        Self { clock, at: None, sleep: Box::pin(sleep(Duration::ZERO)) }
    }

    fn set(&mut self, at: Option<Duration>) {
        let Some(new) = at else {
            self.at = None;
            return;
        };
        if self.at.is_none_or(|old| new < old) {
            self.at = Some(new);
            let wait = new.saturating_sub(self.clock.elapsed());
            self.sleep.as_mut().reset(tokio::time::Instant::now() + wait);
        }
    }

    async fn rings(&mut self) {
        if self.at.is_none() {
            std::future::pending::<()>().await;
        }
        self.sleep.as_mut().await;
        self.at = None;
    }
}
