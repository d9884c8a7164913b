//! The bare TCP request and response of the same sizes: what the machine can do when there is no iSCSI, no SCSI
//! and no disk at all. A thread per connection, nothing batched.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::load::Spec;
use crate::wire::BHS_LEN;

/// Bytes of a request and of its response, as an iSCSI command of that kind would move.
fn sizes(spec: &Spec) -> (usize, usize) {
    if spec.write { (BHS_LEN + spec.size, BHS_LEN) } else { (BHS_LEN, BHS_LEN + spec.size) }
}

fn serve(mut stream: TcpStream, request: usize, response: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut question, answer) = (vec![0; request], vec![0; response]);
    loop {
        stream.read_exact(&mut question)?;
        stream.write_all(&answer)?;
    }
}

fn ask(portal: SocketAddr, spec: &Spec, until: Instant) -> io::Result<u64> {
    let (request, response) = sizes(spec);
    let mut stream = TcpStream::connect(portal)?;
    stream.set_nodelay(true)?;
    let (question, mut answer) = (vec![0; request], vec![0; response]);
    // a window of large writes in both directions would stop both ends: neither reads while it writes
    let depth = spec.depth.min((256 * 1024 / request.max(1)).max(1));
    for _ in 0..depth {
        stream.write_all(&question)?;
    }
    let mut answers = 0;
    while Instant::now() < until {
        for _ in 0..16 {
            stream.read_exact(&mut answer)?;
            stream.write_all(&question)?;
            answers += 1;
        }
    }
    Ok(answers)
}

/// Responses per second of `spec.initiators` connections.
///
/// # Errors
/// When a socket fails.
pub(crate) fn run(spec: &Spec) -> io::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let portal = listener.local_addr()?;
    let (request, response) = sizes(spec);
    let connections = spec.initiators;
    thread::spawn(move || {
        for stream in listener.incoming().take(connections).flatten() {
            thread::spawn(move || serve(stream, request, response));
        }
    });
    let begun = Instant::now();
    let until = begun + spec.duration.min(Duration::from_secs(10));
    let asking: Vec<_> = (0..connections)
        .map(|_| {
            let spec = spec.clone();
            thread::spawn(move || ask(portal, &spec, until))
        })
        .collect();
    let mut answers = 0;
    for thread in asking {
        answers += thread.join().map_err(|_| io::Error::other("a client thread died"))??;
    }
    Ok(answers as f64 / begun.elapsed().as_secs_f64())
}
