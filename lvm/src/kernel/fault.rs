//! Places at which a test has the process killed: at each of them, what the kernel then holds must be put right by the
//! next process. Without the feature `faults` there is nothing here.

/// Ends the process as `kill -9` does, if `BOOTD_KERNEL_FAULT` names this place.
#[cfg(feature = "faults")]
pub(super) fn here(place: &str) {
    if std::env::var("BOOTD_KERNEL_FAULT").is_ok_and(|wanted| wanted == place) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

#[cfg(not(feature = "faults"))]
pub(super) fn here(_place: &str) {}
