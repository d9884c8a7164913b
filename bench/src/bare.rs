//! The bare TCP request and response of the same sizes: what the machine can do when there is no iSCSI, no SCSI
//! and no disk at all. It answers from a thread per connection, with nothing batched, and is asked from one thread,
//! as the targets are. What is read comes from memory as large as the part
//! of the disk that the load uses, in the same order: one buffer sent again and again would never leave the
//! processor's cache, and be a limit that nobody who serves a disk can reach.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::load::{self, Pattern, Spec};
use crate::wire::BHS_LEN;

/// Bytes of a request and of its response, as an iSCSI command of that kind would move.
fn sizes(spec: &Spec) -> (usize, usize) {
    if spec.write { (BHS_LEN + spec.size, BHS_LEN) } else { (BHS_LEN, BHS_LEN + spec.size) }
}

/// The disk's content, as far as the load reads it.
fn memory(spec: &Spec) -> Vec<u8> {
    // Other than zero: untouched zeroes would all be one page.
    vec![1; if spec.write { 0 } else { usize::try_from(spec.span).unwrap_or(usize::MAX) }]
}

fn serve(mut stream: std::net::TcpStream, spec: &Spec, number: usize, memory: &[u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut pattern = Pattern::new(spec, number);
    let (mut question, header) = (vec![0; sizes(spec).0], [0; BHS_LEN]);
    loop {
        stream.read_exact(&mut question)?;
        let at = usize::try_from(pattern.next_lba() * 512).unwrap_or(0);
        let data = memory.get(at..at + spec.size).unwrap_or_default();
        send(&mut stream, &header, data)?;
    }
}

/// Both in one call, as far as the socket takes them.
fn send(stream: &mut std::net::TcpStream, header: &[u8], data: &[u8]) -> io::Result<()> {
    let sent = stream.write_vectored(&[IoSlice::new(header), IoSlice::new(data)])?;
    let (header, data) = (header.get(sent..), data.get(sent.saturating_sub(header.len())..));
    stream.write_all(header.unwrap_or_default())?;
    stream.write_all(data.unwrap_or_default())
}

/// Keeps `spec.depth` questions outstanding, as a session of the load generator does, until `until`.
async fn ask(mut stream: TcpStream, spec: Spec, until: Instant) -> io::Result<u64> {
    let (request, response) = sizes(&spec);
    // a window of large writes in both directions would stop both ends: neither reads while it writes
    let depth = spec.depth.min((256 * 1024 / request.max(1)).max(1));
    let questions = vec![0; request * depth];
    let mut input = vec![0; load::receive_buffer(&spec)];
    stream.write_all(&questions).await?;
    let (mut answers, mut part) = (0, 0);
    while Instant::now() < until {
        let count = stream.read(&mut input).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let whole = (part + count) / response;
        part = (part + count) % response;
        stream.write_all(questions.get(..whole * request).unwrap_or(&questions)).await?;
        answers += whole as u64;
    }
    Ok(answers)
}

/// Responses per second of `spec.initiators` connections, asked for from one thread, as the targets' load is.
///
/// # Errors
/// When a socket fails.
pub(crate) fn run(spec: &Spec) -> io::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let portal = listener.local_addr()?;
    let connections = spec.initiators;
    let (memory, served) = (Arc::new(memory(spec)), spec.clone());
    thread::spawn(move || {
        for (number, stream) in listener.incoming().take(connections).flatten().enumerate() {
            let (memory, spec) = (Arc::clone(&memory), served.clone());
            thread::spawn(move || serve(stream, &spec, number, &memory));
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..connections {
            streams.push(load::connect(portal).await?);
        }
        let begun = Instant::now();
        let until = begun + spec.duration.min(Duration::from_secs(10));
        let asking: Vec<_> =
            streams.into_iter().map(|stream| tokio::spawn(ask(stream, spec.clone(), until))).collect();
        let mut answers = 0;
        for task in asking {
            answers += task.await.map_err(io::Error::other)??;
        }
        Ok(answers as f64 / begun.elapsed().as_secs_f64())
    })
}
