//! The sockets that systemd holds open: which are taken, which are given to it, and what is said of those that are wrong.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use support::{
    Daemon, DaemonOptions, Lab, Manager, NetClient, Result, SERVER, SOON, ensure, refused_start_with,
    wait_for,
};

fn options(manager: &Manager) -> DaemonOptions {
    DaemonOptions { notify: Some(manager.path().to_owned()), ..DaemonOptions::default() }
}

/// A socket that listens where the server is.
fn listener(lab: &Lab, port: u16) -> Result<TcpListener> {
    Ok(lab.server().enter(|| TcpListener::bind((SERVER, port)))??)
}

#[test]
fn what_bootd_listens_on_is_given_to_systemd_and_taken_back() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let mut manager = Manager::new(&lab)?;
    let mut daemon = Daemon::start_with(&lab, &options(&manager))?;
    let mut names = manager.names()?;
    names.sort();
    let wanted = ["bootd-listens-on-10.77.0.1-3260", "bootd-listens-on-10.77.0.1-80"];
    ensure!(names == wanted, "these sockets were given: {names:?}");
    ensure!(manager.was_told("READY=1")?, "systemd was not told that bootd serves");

    // Nobody serves, and nobody is refused.
    daemon.kill()?;
    let waiting = lab.server().enter(|| TcpStream::connect((SERVER, 3260)))??;
    daemon.start_again_with(&mut manager)?;
    wait_for("the connection that waited to be taken", SOON, || {
        Ok((daemon.counter("iscsi_connections")? == 1).then_some(()))
    })?;
    drop(waiting);
    ensure!(
        manager.names()?.len() == 2,
        "a socket was given that had been given back: {:?}",
        manager.names()?
    );

    // Another configuration: what is not wanted any more is closed, or it would take connections for ever.
    daemon.stop()?;
    ensure!(manager.was_told("STOPPING=1")?, "systemd was not told that bootd stops");
    drop(daemon);
    let config = Some("interface = \"srv0\"\n[iscsi]\nport = 3261\n".to_owned());
    let daemon = Daemon::start_given(&lab, &DaemonOptions { config, ..options(&manager) }, &mut manager)?;
    let mut names = manager.names()?;
    names.sort();
    let wanted = ["bootd-listens-on-10.77.0.1-3261", "bootd-listens-on-10.77.0.1-80"];
    ensure!(names == wanted, "these sockets are kept: {names:?}");
    ensure!(daemon.log().contains("10.77.0.1:3260: not configured any more"), "{}", daemon.log());
    let refused = lab.server().enter(|| TcpStream::connect((SERVER, 3260)))?;
    ensure!(refused.is_err(), "a port that is not served any more takes connections");
    Ok(())
}

#[test]
fn a_unit_s_sockets_are_used() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let mut manager = Manager::new(&lab)?;
    for port in [80, 3260] {
        manager.open(listener(&lab, port)?, "bootd.socket");
    }
    // Before there is a bootd at all.
    let early = NetClient::new(&lab, "52:54:00:77:09:01")?;
    early.namespace().ip(&["addr", "add", "10.77.0.77/24", "dev", "eth0"])?;
    let waiting = early.namespace().enter(|| TcpStream::connect((SERVER, 3260)))??;
    let daemon = Daemon::start_given(&lab, &options(&manager), &mut manager)?;
    wait_for("the connection that waited to be taken", SOON, || {
        Ok((daemon.counter("iscsi_connections")? == 1).then_some(()))
    })?;
    drop(waiting);
    ensure!(manager.names()?.len() == 2, "sockets of a unit were stored as well: {:?}", manager.names()?);
    let log = daemon.log();
    ensure!(log.contains("10.77.0.1:80: listening by the socket that was held open (bootd.socket)"), "{log}");
    ensure!(!log.contains("ListenStream"), "bootd misses a socket that it was given:\n{log}");
    Ok(())
}

#[test]
fn sockets_that_do_not_fit_are_told_of() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let refused = |socket: OwnedFd, told: &str| -> Result {
        let mut manager = Manager::new(&lab)?;
        manager.open(socket, "bootd.socket");
        let said = refused_start_with(&lab, &DaemonOptions::default(), &mut manager)?.text();
        std::fs::remove_file(manager.path())?;
        ensure!(said.contains(told) && said.contains("ListenStream="), "{told} is not told of: {said}");
        Ok(())
    };
    // A port that is not configured, every address instead of the served ones, and another protocol.
    refused(listener(&lab, 3333)?.into(), "TCP 10.77.0.1:3333 open for bootd (bootd.socket)")?;
    refused(lab.server().enter(|| TcpListener::bind(("0.0.0.0", 3260)))??.into(), "TCP 0.0.0.0:3260")?;
    refused(lab.server().enter(|| UdpSocket::bind((SERVER, 69)))??.into(), "UDP 10.77.0.1:69")?;

    // A listener without its socket works, and the operator learns of it.
    let mut manager = Manager::new(&lab)?;
    manager.open(listener(&lab, 80)?, "bootd.socket");
    let daemon = Daemon::start_given(&lab, &options(&manager), &mut manager)?;
    let log = daemon.log();
    ensure!(log.contains("add ListenStream=10.77.0.1:3260"), "{log}");
    let connected = lab.server().enter(|| {
        let to = std::net::SocketAddr::new(SERVER.parse().ok()?, 3260);
        TcpStream::connect_timeout(&to, Duration::from_secs(5)).ok()
    })?;
    ensure!(connected.is_some(), "iSCSI is not served though it was only not in the unit");
    Ok(())
}
