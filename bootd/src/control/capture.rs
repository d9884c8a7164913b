//! The packets of a machine, as they come and go, for the command that asked.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{Path, Query, State as Extract};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::future::select_all;
use futures_util::stream;
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::Control;
use super::answer::Wrong;
use super::api::CaptureLimits;
use super::explain::whose;
use crate::sys::Tap;
use crate::taps::{Running, SNAP_LEN, TapError, pcap_header, pcap_record, worth_keeping};

/// The bounds of what may be asked for. More is taken as this.
const MAX_SECONDS: u64 = 3600;
const MAX_PACKETS: u64 = 1_000_000;
const MAX_BYTES: u64 = 1 << 30;

/// How many packets may wait for the command that writes them. When there are more, the socket's buffer fills, and then
/// packets are missing in the capture.
const WAITING: usize = 256;

pub(super) async fn capture(
    Extract(control): Extract<Arc<Control>>,
    Path(machine): Path<String>,
    Query(limits): Query<CaptureLimits>,
) -> Result<Response, Wrong> {
    let state = &control.state;
    let site = state.site.load_full();
    let (mac, _) = whose(&site, &machine)?;
    let Some(mac) = mac else {
        return Err(Wrong::invalid(
            format!("the client \"{machine}\" has no MAC address, so no packet is known to be its"),
            format!("give it one with: bootd client set {machine} --mac MAC"),
        ));
    };
    let address = state.address_of(mac).or_else(|| site.client_by_mac(mac).and_then(|client| client.address));
    let running = control.taps.begin(mac, address)?;
    let (frames, told) = mpsc::channel(WAITING);
    let iscsi_port = (!limits.full).then_some(state.config.iscsi_port);
    tokio::spawn(watch(running, limits, iscsi_port, frames));
    let body = stream::unfold(told, async |mut told: mpsc::Receiver<Bytes>| {
        let frame = told.recv().await?;
        Some((Ok::<_, std::io::Error>(frame), told))
    });
    Ok(([(CONTENT_TYPE, "application/vnd.tcpdump.pcap")], Body::from_stream(body)).into_response())
}

/// Captures until a limit is reached or nobody listens any more.
async fn watch(
    running: Running,
    limits: CaptureLimits,
    iscsi_port: Option<u16>,
    frames: mpsc::Sender<Bytes>,
) {
    let until = Instant::now() + Duration::from_secs(limits.seconds.min(MAX_SECONDS));
    let (packets, bytes) = (limits.packets.min(MAX_PACKETS), limits.bytes.min(MAX_BYTES));
    let watched: Result<Vec<_>, _> = running.taps.iter().map(Tap::watch).collect();
    let Ok(watched) = watched else { return };
    if watched.is_empty() || frames.send(pcap_header().into()).await.is_err() {
        return;
    }
    let mut buffers: Vec<Vec<u8>> = watched.iter().map(|_| vec![0; SNAP_LEN]).collect();
    let (mut sent_packets, mut sent_bytes) = (0, 0);
    while sent_packets < packets && sent_bytes < bytes {
        let next = watched
            .iter()
            .zip(&mut buffers)
            .map(|(tap, buffer)| Box::pin(async move { tap.receive(buffer).await.map(|len| (len, buffer)) }));
        let received = tokio::select! {
            received = timeout_at(until, select_all(next)) => received,
            () = frames.closed() => return,
        };
        // The time is over, or the interface is gone.
        let Ok((Ok((len, buffer)), ..)) = received else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let frame = buffer.get(..len.min(SNAP_LEN)).unwrap_or_default();
        let kept = iscsi_port.map_or(frame.len(), |port| worth_keeping(frame, port));
        let micros = u64::try_from(now.as_micros()).unwrap_or_default();
        let record = pcap_record(frame.get(..kept).unwrap_or_default(), len, micros);
        sent_packets += 1;
        sent_bytes += record.len() as u64;
        if frames.send(record.into()).await.is_err() {
            return;
        }
    }
}

impl From<TapError> for Wrong {
    fn from(error: TapError) -> Self {
        let hint = match &error {
            TapError::Missing(_) => "start bootd as root, or by its systemd unit, which gives it CAP_NET_RAW",
            TapError::Busy(_) => "wait until it is over, or end the command that asked for it",
            TapError::System(_) => {
                "tcpdump on the server can do the same: tcpdump -i INTERFACE ether host MAC"
            }
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string(), Some(hint.to_owned()))
    }
}
