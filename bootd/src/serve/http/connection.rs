//! One connection: reads requests and has them answered, one after the other, until it is closed or has been idle.
//!
//! This is not hyper, because hyper's bodies are bytes in our memory, and a boot file is best sent by `sendfile(2)`:
//! measured, it takes a tenth of the processor time. The head is read by the parser that hyper uses, and a request
//! with a body is never read at all, which leaves little of HTTP/1.1 to be done by hand. See
//! `docs/decisions/0004-http-by-sendfile.md`.

use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::BufMut as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::head::{self, Head, HeadError, MAX_HEAD};
use super::response::Response;

/// How long a connection may stay without a request. iPXE keeps its connection through the loading of a kernel.
const IDLE: Duration = Duration::from_secs(60);

/// How long a head may take from its first byte to its last, however slowly the bytes drip in. Then 408.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// How much is read at a time, in bytes. A request is some 100 to 300.
const ROOM: usize = 2048;

/// How long and how many bytes of a request that is not served are read on, so that the answer to it is not lost
/// with the connection's reset (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 * 1024;

/// What a connection's requests are answered by.
pub(super) trait Service: Sync {
    /// What is kept of an answer while it is being sent.
    type Note: Send;

    /// Answers one request.
    fn answer(&self, head: &Head) -> impl Future<Output = (Response, Self::Note)> + Send;

    /// Told how the sending went, with the length of the body that was sent.
    fn sent(&self, note: Self::Note, outcome: &io::Result<u64>);

    /// Told of what was no request.
    fn refused(&self, error: HeadError);
}

/// How a wait for a request ended.
enum Awaited {
    Request(Head),
    Refused(HeadError),
    /// The client closed, broke off or stayed idle, or bootd is stopping.
    Over,
    TooSlow,
}

/// Serves `stream` until it is closed. When `stop` is cancelled, the answer that is being sent is sent to its end.
///
/// # Errors
/// When the connection broke.
pub(super) async fn serve(
    mut stream: TcpStream,
    stop: &CancellationToken,
    service: &impl Service,
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(ROOM);
    // Once for all requests: to begin to wait, for the clock or for the stop, costs a lock that all connections share, and to
    // go on waiting nothing.
    let own_stop = stop.child_token();
    let mut stopping = pin!(own_stop.cancelled());
    let mut clock = pin!(sleep_until(Instant::now() + IDLE));
    loop {
        match await_request(&mut stream, &mut buffer, stopping.as_mut(), clock.as_mut()).await? {
            Awaited::Request(head) => {
                let (response, note) = service.answer(&head).await;
                let keep_alive = head.keep_alive && !stop.is_cancelled();
                let outcome = response.send(&stream, Some(&head), keep_alive).await;
                service.sent(note, &outcome);
                outcome?;
                if !keep_alive {
                    return close(stream).await;
                }
            }
            Awaited::Refused(error) => {
                service.refused(error);
                let mut response = Response::refusal(error.status(), &error.to_string());
                if error == HeadError::Method {
                    response = response.with("Allow", "GET, HEAD");
                }
                response.send(&stream, None, false).await?;
                return close(stream).await;
            }
            Awaited::TooSlow => {
                Response::refusal(408, "the request took too long").send(&stream, None, false).await?;
                return close(stream).await;
            }
            Awaited::Over => return Ok(()),
        }
    }
}

/// The next request. `buffer` holds what was received of it, and afterwards what follows it.
async fn await_request(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    mut stopping: Pin<&mut impl Future<Output = ()>>,
    mut clock: Pin<&mut Sleep>,
) -> io::Result<Awaited> {
    let began = Instant::now();
    let mut deadline = (!buffer.is_empty()).then(|| began + HEAD_TIME);
    loop {
        // Empty lines before a request are to be skipped (RFC 9112, section 2.2), which `httparse` does.
        match head::parse(buffer) {
            Ok(Some((head, len))) => {
                // Rarely there is more.
                buffer.drain(..len);
                return Ok(Awaited::Request(head));
            }
            Ok(None) => {}
            Err(error) => return Ok(Awaited::Refused(error)),
        }
        let started = deadline.is_some();
        let until = deadline.unwrap_or(began + IDLE);
        let wanted = MAX_HEAD.saturating_sub(buffer.len()).max(1);
        buffer.reserve(wanted.min(ROOM));
        // To set a clock is dearer than to look at it: one that strikes too early is set then.
        if clock.deadline() > until {
            clock.as_mut().reset(until);
        }
        let mut room = buffer.limit(wanted);
        let read = tokio::select! {
            biased;
            read = stream.read_buf(&mut room) => read?,
            // A request that has begun is waited for even when stopping: its time is short anyway.
            () = stopping.as_mut(), if !started => return Ok(Awaited::Over),
            () = clock.as_mut() => {
                if clock.deadline() < until {
                    clock.as_mut().reset(until);
                    continue;
                }
                return Ok(if started { Awaited::TooSlow } else { Awaited::Over });
            }
        };
        if read == 0 {
            return Ok(Awaited::Over);
        }
        deadline.get_or_insert_with(|| Instant::now() + HEAD_TIME);
    }
}

async fn close(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut rest = stream.take(LINGER_BYTES);
    let mut sink = tokio::io::sink();
    let _ = timeout(LINGER, tokio::io::copy(&mut rest, &mut sink)).await;
    Ok(())
}
