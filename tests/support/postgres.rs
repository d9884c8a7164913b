//! A PostgreSQL server of a lab's own: Debian's, as an unprivileged user, behind a socket in the lab's directory, which
//! daemons in any namespace reach.

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Context, DaemonOptions, Failure, Lab, Result, SERVER_INTERFACE, ensure, run, wait_for};

/// Debian's "nobody": the server refuses to be root's.
const NOBODY: u32 = 65534;

/// Where Debian has the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// The user and the database that are made.
const NAME: &str = "bootd";

/// How long a server may take to be made or to recover, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server with an empty database. Killed when dropped, or with its lab.
#[derive(Debug)]
pub struct Postgres {
    /// The command that starts it again.
    command: Command,
    child: Child,
    programs: PathBuf,
    folder: PathBuf,
}

/// The programs of the newest version that is installed, if one is.
pub(crate) fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir(VERSIONS).ok()?.flatten().map(|version| version.path().join("bin"));
    let mut found: Vec<_> = versions.filter(|bin| bin.join("postgres").is_file()).collect();
    found.sort_by_key(|bin| {
        let version = bin.parent().and_then(|version| version.file_name());
        version.and_then(|version| version.to_str()?.parse::<u32>().ok())
    });
    found.pop()
}

impl Postgres {
    /// Makes a server and its database, and waits until it answers.
    ///
    /// # Errors
    /// When it can't be made or does not answer.
    pub fn start(lab: &Lab) -> Result<Self> {
        let programs = programs().context("no PostgreSQL: install postgresql")?;
        let folder = lab.dir().join("postgres");
        fs::create_dir(&folder)?;
        chown(&folder, Some(NOBODY), Some(NOBODY))?;
        let data = folder.join("data");
        let mut initdb = unprivileged(lab, &programs.join("initdb"), &folder);
        initdb.args(["-U", NAME, "-A", "trust", "-E", "UTF8", "--locale=C", "-N", "-D"]).arg(&data);
        run(&mut initdb)?.success()?;
        let mut command = unprivileged(lab, &programs.join("postgres"), &folder);
        command.arg("-D").arg(&data).arg("-k").arg(&folder);
        // What is killed is the server and not the machine: nothing has to reach a disk.
        command.args(["-c", "listen_addresses=", "-c", "fsync=off"]);
        let child = spawn(&mut command, &folder)?;
        let mut server = Self { command, child, programs, folder };
        server.wait_ready()?;
        let made = run(&mut server.psql("postgres", &format!("CREATE DATABASE {NAME}")))?;
        made.success()?;
        Ok(server)
    }

    /// How to start a daemon whose site is on it.
    #[must_use]
    pub fn options(&self) -> DaemonOptions {
        let host = self.folder.to_string_lossy().replace('/', "%2F");
        let config =
            format!("interface = \"{SERVER_INTERFACE}\"\nsite = \"postgres://{NAME}@{host}/{NAME}\"\n");
        DaemonOptions { config: Some(config), ..DaemonOptions::default() }
    }

    /// Ends all of its processes without asking, as a power cut does.
    ///
    /// # Errors
    /// When it is no more.
    pub fn kill(&mut self) -> Result {
        let (main, children) = self.held()?;
        kill(main, Signal::SIGKILL)?;
        self.child.wait()?;
        for child in children {
            // It may have noticed already.
            let _ = kill(child, Signal::SIGKILL);
        }
        Ok(())
    }

    /// Holds all of its processes: who is connected or connects gets no answer and no error, as from a machine that hangs.
    ///
    /// # Errors
    /// When it is no more.
    pub fn freeze(&mut self) -> Result {
        let (_, children) = self.held()?;
        for child in children {
            kill(child, Signal::SIGSTOP)?;
        }
        Ok(())
    }

    /// Lets it go on after [`Postgres::freeze`].
    ///
    /// # Errors
    /// When it is no more.
    pub fn thaw(&mut self) -> Result {
        let (main, children) = self.held()?;
        for process in children.into_iter().chain([main]) {
            kill(process, Signal::SIGCONT)?;
        }
        Ok(())
    }

    /// Its main process, held so that it makes no more of them while they are counted; and those.
    fn held(&mut self) -> Result<(Pid, Vec<Pid>)> {
        // Its number may be another process's already.
        ensure!(self.child.try_wait()?.is_none(), "PostgreSQL does not run");
        let pid = self.child.id();
        let main = Pid::from_raw(i32::try_from(pid)?);
        kill(main, Signal::SIGSTOP)?;
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(&path).context(&path)?;
        let children = children.split_whitespace().map(|child| Ok(Pid::from_raw(child.parse()?)));
        Ok((main, children.collect::<Result<_>>()?))
    }

    /// Starts it again with all that it had, after [`Postgres::kill`].
    ///
    /// # Errors
    /// When it does not answer.
    pub fn start_again(&mut self) -> Result {
        self.child = spawn(&mut self.command, &self.folder)?;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result {
        let ready = wait_for("PostgreSQL to answer", PATIENCE, || {
            // It refuses to start while a process of the one before is still there.
            if self.child.try_wait()?.is_some() {
                self.child = spawn(&mut self.command, &self.folder)?;
            }
            Ok(run(&mut self.psql("postgres", "SELECT 1"))?.ok().then_some(()))
        });
        let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        ready.map_err(|failure| Failure::new(format!("{failure}\n{}", log())))
    }

    fn psql(&self, database: &str, statement: &str) -> Command {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-U", NAME, "-d", database, "-c", statement]);
        command.arg("-h").arg(&self.folder);
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.kill();
    }
}

/// In the lab's namespace, with which it goes when the test is killed.
fn unprivileged(lab: &Lab, program: &Path, folder: &Path) -> Command {
    let mut command = lab.server().command("setpriv");
    command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()]);
    command.arg(program).current_dir(folder);
    command
}

fn spawn(command: &mut Command, folder: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(folder.join("log"))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().context("can't start PostgreSQL")
}
