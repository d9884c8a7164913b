//! The boots of a machine: their steps, how long each part took, and what went wrong.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State as Extract};
use netboot::{Boot, Boots, diagnose};
use serde::Deserialize;
use site::MacAddr;

use super::Control;
use super::answer::Wrong;
use super::api::{BootHistory, BootStatus, BootStep, PhaseTime};
use super::explain::whose;
use crate::state::{State, unix_millis};

#[derive(Debug, Deserialize)]
pub(super) struct Which {
    last: Option<usize>,
}

pub(super) async fn boots(
    Extract(control): Extract<Arc<Control>>,
    Path(machine): Path<String>,
    Query(which): Query<Which>,
) -> Result<Json<BootHistory>, Wrong> {
    let state = &control.state;
    let site = state.site.load_full();
    let (mac, _) = whose(&site, &machine)?;
    let Some(mac) = mac else {
        return Err(Wrong::invalid(
            format!("the client \"{machine}\" has no MAC address, so no boot is known to be its"),
            format!("give it one with: bootd client set {machine} --mac MAC"),
        ));
    };
    let client = site.client_by_mac(mac).map(|client| client.name.clone());
    let boots = history(state, mac, which.last.unwrap_or(usize::MAX));
    Ok(Json(BootHistory { mac, client, boots }))
}

/// The last boots of a machine, the newest first.
pub(super) fn history(state: &State, mac: MacAddr, most: usize) -> Vec<BootStatus> {
    let (boots, now) = (state.boots.lock(), unix_millis());
    let all: Vec<&Boot> = boots.history(mac).collect();
    let one = |(at, boot): (usize, &&Boot)| report(boot, all.get(at + 1..).unwrap_or_default(), now);
    all.iter().enumerate().take(most).map(one).collect()
}

/// The boot that a machine is in, or its last.
pub(super) fn last(boots: &Boots, mac: MacAddr) -> Option<BootStatus> {
    let all: Vec<&Boot> = boots.history(mac).collect();
    let (boot, earlier) = all.split_first()?;
    Some(report(boot, earlier, unix_millis()))
}

fn report(boot: &Boot, earlier: &[&Boot], now_ms: u64) -> BootStatus {
    let step = |step: &netboot::Step| BootStep {
        after: step.at_ms.saturating_sub(boot.started_ms),
        what: step.kind.to_string(),
        detail: step.detail.clone(),
        failed: step.kind.is_failure(),
    };
    let phases = boot.phases().into_iter().map(|(phase, took)| PhaseTime { phase, took });
    BootStatus {
        epoch: format!("{:x}", boot.epoch),
        started: boot.started_ms,
        progress: boot.progress(now_ms),
        phases: phases.collect(),
        steps: boot.steps.iter().map(step).collect(),
        left_out: boot.left_out,
        findings: diagnose(boot, earlier, now_ms),
    }
}
