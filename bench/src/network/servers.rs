//! The servers, as their packages come, configured for the same task.

use std::fs;
use std::io;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::lab::{Lab, SERVER, SERVER_INTERFACE};

/// How long one may take to answer.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A server that runs; ended on drop.
pub(super) struct Server {
    pub(super) name: &'static str,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Those with workers pass it on.
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begun.elapsed() > START_LIMIT {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn start(name: &'static str, package: &str, command: &mut Command) -> io::Result<Server> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = child.map_err(|e| io::Error::other(format!("{name}: {e}; apt-get install {package}")))?;
    Ok(Server { name, child })
}

impl Server {
    /// Waits until `answers` says so.
    pub(super) fn ready(mut self, mut answers: impl FnMut() -> bool) -> io::Result<Self> {
        let begun = Instant::now();
        while !answers() {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("{} ended at start: {status}", self.name)));
            }
            if begun.elapsed() > START_LIMIT {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{} does not answer", self.name),
                ));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(self)
    }
}

/// The daemon itself, built beside this program, with `files` as its boot files.
pub(super) fn bootd(lab: &Lab, files: &Path) -> io::Result<Server> {
    let program = std::env::current_exe()?.with_file_name("bootd");
    if !program.is_file() {
        return Err(io::Error::other(format!("{} is not there: cargo build --release", program.display())));
    }
    let data = lab.folder("bootd")?;
    let _ = fs::remove_file(data.join("files"));
    std::os::unix::fs::symlink(files, data.join("files"))?;
    let config = data.join("bootd.toml");
    fs::write(&config, "[dhcp]\npool = \"10.99.64.0-10.99.127.255\"\n")?;
    let mut command = lab.at_server(&program);
    command.args(["serve", "--sim", "--log", "error", "--interface", SERVER_INTERFACE, "--data"]).arg(&data);
    start("bootd", "bootd", command.arg("--config").arg(&config))
}

/// tftpd-hpa.
pub(super) fn tftpd_hpa(lab: &Lab, files: &Path) -> io::Result<Server> {
    let mut command = lab.at_server(Path::new("/usr/sbin/in.tftpd"));
    start("tftpd-hpa", "tftpd-hpa", command.args(["-L", "-s", "-u", "root", "-a", SERVER]).arg(files))
}

/// dnsmasq: TFTP and DHCP.
pub(super) fn dnsmasq(lab: &Lab, files: &Path) -> io::Result<Server> {
    let leases = lab.folder("dnsmasq")?.join("leases");
    let _ = fs::remove_file(&leases);
    let mut command = lab.at_server(Path::new("/usr/sbin/dnsmasq"));
    command.args([
        "-k",
        "--conf-file=/dev/null",
        "--port=0",
        "--user=root",
        "--bind-interfaces",
        "--log-facility=/dev/null",
    ]);
    command.args([
        "--quiet-dhcp",
        "--quiet-tftp",
        "--no-ping",
        "--enable-tftp",
        "--tftp-max=1000",
        "--dhcp-lease-max=100000",
    ]);
    command.args(["--dhcp-range=10.99.64.0,10.99.127.255,255.255.0.0,1h", "--dhcp-authoritative"]);
    command.arg(format!("--interface={SERVER_INTERFACE}")).arg(format!("--tftp-root={}", files.display()));
    start("dnsmasq", "dnsmasq-base", command.arg(format!("--dhcp-leasefile={}", leases.display())))
}

/// Kea's DHCP server, with leases in its file.
pub(super) fn kea(lab: &Lab) -> io::Result<Server> {
    let folder = lab.folder("kea")?;
    let leases = folder.join("leases.csv");
    let _ = fs::remove_file(&leases);
    let config = serde_json::json!({ "Dhcp4": {
        "interfaces-config": { "interfaces": [SERVER_INTERFACE], "dhcp-socket-type": "raw" },
        "lease-database": { "type": "memfile", "persist": true, "name": leases, "lfc-interval": 0 },
        "valid-lifetime": 3600,
        "multi-threading": { "enable-multi-threading": true },
        "subnet4": [{ "subnet": "10.99.0.0/16", "pools": [{ "pool": "10.99.64.0-10.99.127.255" }] }],
        "loggers": [{ "name": "kea-dhcp4", "severity": "ERROR", "output_options": [{ "output": "/dev/null" }] }],
    }});
    let path = folder.join("kea.json");
    fs::write(&path, config.to_string())?;
    let mut command = lab.at_server(Path::new("/usr/sbin/kea-dhcp4"));
    command.env("KEA_PIDFILE_DIR", &folder).env("KEA_LOCKFILE_DIR", "none");
    start("kea", "kea-dhcp4-server", command.arg("-c").arg(&path))
}

/// nginx.
pub(super) fn nginx(lab: &Lab, files: &Path) -> io::Result<Server> {
    let folder = lab.folder("nginx")?;
    let config = format!(
        "daemon off; user root; worker_processes auto; pid {0}/pid; error_log /dev/null crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; types {{ }}\n\
         client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n\
         server {{ listen {SERVER}:80; location /files/ {{ alias {1}/; }} }} }}\n",
        folder.display(),
        files.display()
    );
    let path = folder.join("nginx.conf");
    fs::write(&path, config)?;
    let mut command = lab.at_server(Path::new("/usr/sbin/nginx"));
    start("nginx", "nginx-light", command.arg("-c").arg(&path).arg("-e").arg("/dev/null"))
}

/// Whether something answers a TFTP request for that file.
pub(super) fn answers_tftp(lab: &Lab, name: &str) -> bool {
    let asked = lab.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        socket.send_to(format!("\0\x01{name}\0octet\0tsize\x000\0").as_bytes(), (SERVER, 69))?;
        let mut answer = [0; 600];
        let (_, from) = socket.recv_from(&mut answer)?;
        socket.send_to(b"\0\x05\0\x08enough\0", from)
    });
    asked.is_ok()
}
