//! Two network namespaces and a cable: one for the servers, one for the load.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns};

/// The server's address and interface.
pub(super) const SERVER: &str = "10.99.0.1";
pub(super) const SERVER_INTERFACE: &str = "srv0";
/// How many addresses the load has for clients: 10.99.128.1 and so on. Its own, a relay's, is 10.99.0.2.
pub(super) const CLIENTS: u16 = 200;

/// The namespaces, removed when dropped.
pub(super) struct Lab {
    name: String,
    scratch: tempfile::TempDir,
}

fn ip(words: &[&str]) -> io::Result<()> {
    let done = Command::new("ip").args(words).output()?;
    if done.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&done.stderr))))
}

impl Lab {
    pub(super) fn new() -> io::Result<Self> {
        let name = format!("bench{}", std::process::id());
        let lab = Self { scratch: tempfile::tempdir_in("/dev/shm")?, name };
        let (server, load) = (lab.server(), lab.load());
        // tftpd-hpa and nginx give up root's rights, and must still see the files.
        fs::set_permissions(lab.scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        for namespace in [&server, &load] {
            ip(&["netns", "add", namespace])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        }
        let peer = ["peer", "name", "cli0", "netns", &load];
        ip(&[&["link", "add", SERVER_INTERFACE, "netns", &server, "type", "veth"], &peer[..]].concat())?;
        ip(&["-n", &server, "addr", "add", "10.99.0.1/16", "dev", SERVER_INTERFACE])?;
        ip(&["-n", &server, "link", "set", SERVER_INTERFACE, "up"])?;
        ip(&["-n", &load, "addr", "add", "10.99.0.2/16", "dev", "cli0"])?;
        for number in 1..=CLIENTS {
            ip(&["-n", &load, "addr", "add", &format!("{}/16", client(number)), "dev", "cli0"])?;
        }
        ip(&["-n", &load, "link", "set", "cli0", "up"])?;
        Ok(lab)
    }

    fn server(&self) -> String {
        format!("{}-server", self.name)
    }

    fn load(&self) -> String {
        format!("{}-load", self.name)
    }

    /// A folder for the servers' files.
    pub(super) fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.scratch.path().join(name);
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        Ok(path)
    }

    pub(super) fn at_server(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.server()]).arg(program);
        command
    }

    pub(super) fn at_load(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.load(), program]);
        command
    }

    /// Runs `work` on a thread that is where the load is, as are the threads that it starts.
    pub(super) fn enter<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let file = File::open(format!("/run/netns/{}", self.load()))?;
        thread::scope(|scope| {
            let inside = || {
                setns(&file, CloneFlags::CLONE_NEWNET)?;
                work()
            };
            scope.spawn(inside).join().map_err(|_| io::Error::other("the load broke down"))?
        })
    }
}

/// The address of that client.
pub(super) fn client(number: u16) -> String {
    format!("10.99.{}.{}", 128 + number / 200, number % 200 + 1)
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [self.server(), self.load()] {
            let _ = ip(&["netns", "del", &namespace]);
        }
    }
}
