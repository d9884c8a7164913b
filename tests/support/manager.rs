//! What systemd is to a service, as far as bootd knows it: it is told how the service is, keeps the service's listening
//! sockets while there is no process, and hands them to the next one (`sd_notify(3)`, `sd_listen_fds(3)`).

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::{Context, Lab, Result, ensure};

/// Keeps a service's sockets.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    kept: Vec<(OwnedFd, String)>,
    told: Vec<String>,
}

impl Manager {
    /// One that listens in the lab's directory.
    ///
    /// # Errors
    /// The system's.
    pub fn new(lab: &Lab) -> Result<Self> {
        let path = lab.dir().join("notify");
        let socket = UnixDatagram::bind(&path).context(path.display())?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path, kept: Vec::new(), told: Vec::new() })
    }

    /// What a service must have as `NOTIFY_SOCKET`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps a socket from now on, as a `.socket` unit of that name does.
    pub fn open(&mut self, socket: impl Into<OwnedFd>, name: &str) {
        self.kept.push((socket.into(), name.to_owned()));
    }

    /// Reads what it was told. Returns the names of all that it keeps.
    ///
    /// # Errors
    /// The system's.
    pub fn names(&mut self) -> Result<Vec<String>> {
        loop {
            let mut text = [0; 4096];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let pieces = &mut [IoSliceMut::new(&mut text)];
            let received = match recvmsg(&self.socket, pieces, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::AGAIN) => break,
                received => received?,
            };
            let descriptors = control.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            });
            let descriptors: Vec<OwnedFd> = descriptors.flatten().collect();
            let text = String::from_utf8_lossy(text.get(..received.bytes).unwrap_or_default()).into_owned();
            let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            let name = value("FDNAME").unwrap_or("stored").to_owned();
            if value("FDSTORE") == Some("1") {
                self.kept.extend(descriptors.into_iter().map(|descriptor| (descriptor, name.clone())));
            }
            if value("FDSTOREREMOVE") == Some("1") {
                self.kept.retain(|(_, kept)| *kept != name);
            }
            self.told.push(text);
        }
        Ok(self.kept.iter().map(|(_, name)| name.clone()).collect())
    }

    /// Whether it was told that.
    ///
    /// # Errors
    /// The system's.
    pub fn was_told(&mut self, line: &str) -> Result<bool> {
        self.names()?;
        Ok(self.told.iter().any(|text| text.lines().any(|told| told == line)))
    }

    /// Closes all that it keeps, as it does when a service is stopped for good.
    ///
    /// # Errors
    /// The system's.
    pub fn close(&mut self) -> Result {
        self.names()?;
        self.kept.clear();
        Ok(())
    }

    /// `command`, which gets what is kept when it is started. Its standard input and output are taken for that: all
    /// that it says goes to its standard error.
    ///
    /// # Errors
    /// When more is kept than those two, or the system's.
    pub fn hand_over(&mut self, command: &Command) -> Result<Command> {
        let names = self.names()?.join(":");
        ensure!(self.kept.len() <= 2, "no more than two sockets can be handed over, and these are {names}");
        // A process can't say before it is one what its id will be. Other descriptors than these would be inherited by
        // all that is started at the same time.
        let redirections = ["", "3<&0", "3<&0 4<&1"].get(self.kept.len()).unwrap_or(&"");
        let script = format!("export LISTEN_PID=$$; exec \"$0\" \"$@\" {redirections} </dev/null >&2");
        let mut wrapped = Command::new("bash");
        wrapped.args(["-c", &script]).arg(command.get_program()).args(command.get_args());
        wrapped.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        wrapped.env("LISTEN_FDS", self.kept.len().to_string()).env("LISTEN_FDNAMES", names);
        let copy = |at: usize| self.kept.get(at).map(|(kept, _)| kept.try_clone()).transpose();
        wrapped.stdin(copy(0)?.map_or_else(Stdio::null, Stdio::from));
        wrapped.stdout(copy(1)?.map_or_else(Stdio::null, Stdio::from));
        Ok(wrapped)
    }
}
