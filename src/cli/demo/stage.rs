//! The stage: three `serve` processes with certificates and configurations of their own, and a way to hold what
//! c.example sends to a.example.

use super::proxy::Proxy;
use crate::{
    admin::{
        local::ask,
        protocol::{Request, Response},
    },
    cli::pki::{create_ca, create_certificate},
    quic::DoorDialer,
};
use anyhow::{Context, bail};
use mimi_actors::ids::ProviderId;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::Instant,
};

/// How long a node may take to be ready.
const READY_DEADLINE: Duration = Duration::from_secs(20);
/// How often a node is asked whether it is ready.
const ASK_INTERVAL: Duration = Duration::from_millis(25);

/// One provider's process.
struct Provider {
    domain: ProviderId,
    config: PathBuf,
    door: SocketAddr,
    admin: PathBuf,
    log: PathBuf,
    process: Child,
}

/// Everything that the story is played on.
pub(super) struct Stage {
    directory: TempDir,
    providers: BTreeMap<char, Provider>,
    proxy: Proxy,
    pub(super) dialer: DoorDialer,
}

impl Stage {
    /// Makes certificates, writes configurations, starts three processes, waits until they are connected.
    pub(super) async fn build() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("mimi-demo-").tempdir()?;
        let root = directory.path();
        create_ca(root)?;
        let mut links = BTreeMap::new();
        let mut doors = BTreeMap::new();
        for name in ['a', 'b', 'c'] {
            create_certificate(root, &domain(name)?, root)?;
            links.insert(name, free_address()?);
            doors.insert(name, free_address()?);
        }
        let hub = *links.get(&'a').context("a.example has an address")?;
        let proxy = Proxy::start(hub).await?;
        let mut providers = BTreeMap::new();
        for (name, door) in &doors {
            let mut config = head(*name, *door, &links)?;
            for (peer, address) in links.iter().filter(|(peer, _)| *peer != name) {
                let held = (*name, *peer) == ('c', 'a');
                let address = if held { proxy.address() } else { *address };
                write!(
                    config,
                    "[[peer]]\ndomain = \"{peer}.example\"\naddresses = [\"{address}\"]\n\
                     trust = {{ ca = \"ca.crt\" }}\n"
                )?;
            }
            let path = root.join(format!("{name}.toml"));
            std::fs::write(&path, config)?;
            let log = root.join(format!("{name}.log"));
            let process = start(&path, &log)?;
            let admin = root.join(format!("{name}-data")).join("admin.sock");
            let provider = Provider {
                domain: domain(*name)?,
                config: path,
                door: *door,
                admin,
                log,
                process,
            };
            providers.insert(*name, provider);
        }
        let dialer = DoorDialer::new(&root.join("ca.crt"))?;
        let mut stage = Self {
            directory,
            providers,
            proxy,
            dialer,
        };
        for name in ['a', 'b', 'c'] {
            stage.ready(name).await?;
        }
        Ok(stage)
    }

    /// Waits until a provider answers and is connected to both others.
    pub(super) async fn ready(&mut self, name: char) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            let provider = self.provider(name)?;
            if let Some(status) = provider.process.try_wait()? {
                let log = std::fs::read_to_string(&provider.log).unwrap_or_default();
                bail!(
                    "{} ended with {status}: {}",
                    provider.domain,
                    log.lines().last().unwrap_or("")
                );
            }
            if let Ok(Response::Status(status)) = ask(&provider.admin, &Request::Status).await
                && status.peers.iter().all(|peer| peer.connected)
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} was not ready in time", provider.domain);
            }
            tokio::time::sleep(ASK_INTERVAL).await;
        }
    }

    fn provider(&mut self, name: char) -> anyhow::Result<&mut Provider> {
        self.providers
            .get_mut(&name)
            .with_context(|| format!("{name}.example is on stage"))
    }

    /// Asks a provider's operator socket.
    pub(super) async fn ask(&mut self, name: char, request: &Request) -> anyhow::Result<Response> {
        match ask(&self.provider(name)?.admin, request).await? {
            Response::Refused { why } => bail!("{name}.example: {why}"),
            response => Ok(response),
        }
    }

    /// Where a provider's clients come in.
    pub(super) fn door(&mut self, name: char) -> anyhow::Result<SocketAddr> {
        Ok(self.provider(name)?.door)
    }

    /// Holds what c.example sends to a.example, or lets it go.
    pub(super) fn hold(&self, held: bool) {
        self.proxy.hold(held);
    }

    /// Kills a provider's process with SIGKILL.
    pub(super) async fn kill(&mut self, name: char) -> anyhow::Result<()> {
        let process = &mut self.provider(name)?.process;
        process.start_kill()?;
        process.wait().await?;
        Ok(())
    }

    /// Starts a killed provider again, on the same data.
    pub(super) async fn restart(&mut self, name: char) -> anyhow::Result<()> {
        let provider = self.provider(name)?;
        provider.process = start(&provider.config, &provider.log)?;
        self.ready(name).await
    }

    /// The commands that show what is going on.
    pub(super) fn how_to_look_around(&self) -> String {
        let me = std::env::current_exe().unwrap_or_else(|_| "mimi-node".into());
        let mut text = "the providers keep running; Ctrl-C ends them. Look around:\n".to_owned();
        for provider in self.providers.values() {
            for command in ["status", "user list"] {
                let (me, config) = (me.display(), provider.config.display());
                // Writing to a String does not fail.
                let _ = writeln!(text, "{me} {command} --config {config}");
            }
        }
        text
    }

    /// Keeps the files of a story that broke off.
    pub(super) fn keep_files(&mut self) -> PathBuf {
        self.directory.disable_cleanup(true);
        self.directory.path().to_owned()
    }

    /// Stops the providers in order; each must end cleanly.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        for provider in self.providers.values_mut() {
            let pid = provider
                .process
                .id()
                .and_then(|pid| i32::try_from(pid).ok());
            let pid = pid
                .and_then(rustix::process::Pid::from_raw)
                .context("the process runs")?;
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        for provider in self.providers.values_mut() {
            let ended = tokio::time::timeout(READY_DEADLINE, provider.process.wait()).await;
            let status =
                ended.with_context(|| format!("{} did not end in time", provider.domain))??;
            if !status.success() {
                bail!("{} ended with {status}", provider.domain);
            }
        }
        Ok(())
    }
}

fn domain(name: char) -> anyhow::Result<ProviderId> {
    Ok(format!("{name}.example").parse()?)
}

/// A UDP port that is free now.
fn free_address() -> std::io::Result<SocketAddr> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn head(
    name: char,
    door: SocketAddr,
    links: &BTreeMap<char, SocketAddr>,
) -> anyhow::Result<String> {
    let link = links.get(&name).context("every provider has an address")?;
    Ok(format!(
        "[node]\nprovider = \"{name}.example\"\ndata_dir = \"{name}-data\"\n\
         [tls]\ncertificate = \"{name}.example.crt\"\nkey = \"{name}.example.key\"\n\
         [link]\nlisten = \"{link}\"\n[door]\nlisten = \"{door}\"\n"
    ))
}

/// Starts a node; what it says goes to a file.
fn start(config: &Path, log: &Path) -> anyhow::Result<Child> {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)?;
    Command::new(std::env::current_exe()?)
        .arg("serve")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("start a node")
}
