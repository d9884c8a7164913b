//! A PostgreSQL server of a test's own: Debian's, as an unprivileged user, in a folder of its own, on a Unix socket.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::Location;

/// Debian's "nobody", for tests that root runs: the server refuses to be root's.
const NOBODY: u32 = 65534;

/// How long a server may take to start or stop, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) struct Cluster {
    folder: TempDir,
    programs: PathBuf,
    is_root: bool,
    server: std::sync::Mutex<Option<Child>>,
    databases: AtomicU32,
}

impl Cluster {
    pub(super) fn start() -> Self {
        let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL: apt install postgresql");
        let mut programs: Vec<_> = versions.map(|version| version.unwrap().path().join("bin")).collect();
        programs.retain(|bin| bin.join("initdb").exists());
        programs.sort();
        let programs = programs.pop().expect("PostgreSQL's server: apt install postgresql");
        let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let folder = tempfile::tempdir().unwrap();
        if is_root {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let server = std::sync::Mutex::new(None);
        let cluster = Self { folder, programs, is_root, server, databases: AtomicU32::new(0) };
        let mut initdb = cluster.command("initdb");
        initdb.args(["-U", "bootd", "-A", "trust", "-E", "UTF8", "--locale=C", "-N", "-D"]);
        let made = initdb.arg(cluster.data()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        cluster.run();
        cluster
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = if self.is_root {
            let mut command = Command::new("setpriv");
            let nobody =
                [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()];
            command.args(nobody).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(self.folder.path()).env("PGOPTIONS", "-c search_path=bootd");
        command
    }

    /// Starts the server, and waits until it answers.
    pub(super) fn run(&self) {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.folder.path());
        command.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60"]);
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        let child = command.env_remove("PGOPTIONS").stdout(Stdio::null()).stderr(log).spawn().unwrap();
        *self.server.lock().unwrap() = Some(child);
        self.until("answers", || {
            self.tool("psql").args(["-d", "postgres", "-c", "SELECT 1"]).output().unwrap().status.success()
        });
    }

    /// Kills it, as a power cut would.
    pub(super) fn kill(&self) {
        let mut stop = self.command("pg_ctl");
        let stopped = stop.args(["stop", "-m", "immediate", "-w", "-D"]).arg(self.data()).output().unwrap();
        if let Some(mut child) = self.server.lock().unwrap().take() {
            if !stopped.status.success() {
                child.kill().unwrap();
            }
            child.wait().unwrap();
        }
    }

    pub(super) fn until(&self, what: &str, is: impl Fn() -> bool) {
        let started = Instant::now();
        while !is() {
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A program of PostgreSQL's for this server.
    pub(super) fn tool(&self, program: &str) -> Command {
        let mut command = self.command(program);
        command.args(["-U", "bootd", "-h"]).arg(self.folder.path());
        command
    }

    /// Makes a database, and says its name.
    pub(super) fn database(&self) -> String {
        let name = format!("site{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// What statements answer.
    pub(super) fn psql(&self, database: &str, statements: &str) -> String {
        let mut psql = self.tool("psql");
        psql.args(["-v", "ON_ERROR_STOP=1", "-qAtX", "-d", database, "-c", statements]);
        let done = psql.output().unwrap();
        assert!(done.status.success(), "{statements}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    pub(super) fn location(&self, database: &str, copy: &Path) -> Location {
        let host = self.folder.path().to_str().unwrap().replace('/', "%2F");
        Location::Postgres { url: format!("postgres://bootd@{host}/{database}"), copy: copy.to_owned() }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}
